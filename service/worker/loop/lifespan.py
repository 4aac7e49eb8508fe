"""The app's own start-up and shutdown around a worker process, on the loop of its tasks."""

import logging
import multiprocessing
import os
import signal
import threading
from typing import Any, Final, NoReturn

from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from quart import Quart

from service.jobs.celery.app import QuartCelery
from service.parts import parts_of
from service.worker.loop.process_loop import ProcessLoop

logger: Final = logging.getLogger(__name__)

_LOOP: Final = "service.loop"
_PARENTS_POOL: Final = "service.parents_pool"
_MAKING: Final = threading.Lock()


def get_loop(app: Quart) -> ProcessLoop:
    """The process's loop for the app's coroutines; made when it is first needed."""
    with _MAKING:
        loop: ProcessLoop | None = app.extensions.get(_LOOP)
        if loop is None or loop.pid != os.getpid():  # a fork leaves the loop without its thread
            loop = app.extensions[_LOOP] = ProcessLoop(parts_of(app).settings.sync_threads)
        return loop


def is_on_loop(app: Quart) -> bool:
    """Whether the caller runs on the process's loop. Makes none: prefork's parent has none."""
    loop: ProcessLoop | None = app.extensions.get(_LOOP)
    return loop is not None and loop.is_here


def parents_pool(app: Quart) -> Any:
    """In prefork's parent, the pool of its children; None elsewhere."""
    return app.extensions.get(_PARENTS_POOL)


class LifespanStep(bootsteps.StartStopStep):
    """Runs `before_serving`, `while_serving` and `after_serving` once per process with tasks.

    Such a process is the worker itself, but under prefork each of its children.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._celery: QuartCelery = worker.app
        self._app: Quart = worker.app.quart_app

    def create(self, worker: Any) -> None:
        """Learn where the tasks will run, before the pool is started."""
        self._forks = issubclass(worker.pool_cls, PreforkPool)
        # How many processes failed to start: shared with those forked from this one.
        self._failed = multiprocessing.get_context("fork").Value("i", 0)
        if self._forks:
            signals.worker_process_init.connect(self._start_child, weak=False)
            signals.worker_process_shutdown.connect(self._stop, weak=False)
        else:
            signals.worker_shutdown.connect(self._stop, weak=False)  # sent when the pool is done

    def start(self, worker: Any) -> None:
        """Start the app in a worker whose tasks run in it. Ends the worker where that fails."""
        if self._forks:
            self._app.extensions[_PARENTS_POOL] = worker.pool
        elif not self._start():
            raise WorkerShutdown(EX_FAILURE)

    def stop(self, worker: Any) -> None:
        """Leave the app as it is: the pool, which stops after this step, may still need it."""
        if self._failed.value:
            worker.exitcode = EX_FAILURE  # Celery's cold shutdown by itself ends with 0

    def terminate(self, worker: Any) -> None:
        """The same in a cold shutdown; the app shuts down too, though no signal tells of it."""
        self.stop(worker)
        if not self._forks:
            worker.pool.terminate()
            self._stop()

    def _start(self) -> bool:
        loop = get_loop(self._app)
        self._celery.process_loop = loop
        try:
            loop.run(self._app.startup())
        except Exception as error:  # noqa: BLE001  whatever the user's start-up raises
            logger.critical("The app's start-up failed, so this worker cannot run: %r", error)
            return False
        return True

    def _start_child(self, **_: Any) -> None:
        self._app.extensions.pop(_PARENTS_POOL, None)
        if not self._start():
            with self._failed.get_lock():
                self._failed.value += 1
                is_first = self._failed.value == 1
            _wait_for_the_end(have_it_end=is_first)

    def _stop(self, **_: Any) -> None:
        loop = get_loop(self._app)
        try:
            loop.run(self._app.shutdown())
        except Exception:
            logger.exception("The app's shutdown failed")
        finally:
            loop.stop()


def _wait_for_the_end(*, have_it_end: bool) -> NoReturn:
    """Wait to be ended with the worker that this process is a child of, or have that shut down.

    SIGQUIT is Celery's cold shutdown; more of them would cut it short. Returning or exiting instead
    would have the pool try again with a new child, for ever.
    """
    if have_it_end:
        os.kill(os.getppid(), signal.SIGQUIT)
    while True:
        signal.pause()
