"""The app's own start-up and shutdown around a process that runs jobs, on the loop of the jobs."""

import logging
import multiprocessing
import os
import signal
from typing import Any, Final, NoReturn

from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE

from service.jobs.celery.app import QuartCelery
from service.worker.loop.process import process_of

logger: Final = logging.getLogger(__name__)


class LifespanStep(bootsteps.StartStopStep):
    """Runs `before_serving`, `while_serving` and `after_serving` once per process that runs jobs.

    Such a process is the worker itself, but under prefork each of its children.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._celery: QuartCelery = worker.app
        self._app = self._celery.quart_app

    def create(self, worker: Any) -> None:
        """Find out where jobs will run, before the pool is started."""
        self._forks = issubclass(worker.pool_cls, PreforkPool)
        # How many processes failed to start; shared with the children that are forked later.
        self._failed = multiprocessing.get_context("fork").Value("i", 0)
        if self._forks:
            signals.worker_process_init.connect(self._start_child, weak=False)
            signals.worker_process_shutdown.connect(self._stop, weak=False)
        else:
            signals.worker_shutdown.connect(self._stop, weak=False)  # sent when the pool is done

    def start(self, worker: Any) -> None:
        """Start the app, unless children run the jobs. Ends the worker where that fails."""
        if self._forks:
            process_of(self._app).prefork_pool = worker.pool
        elif not self._start():
            raise WorkerShutdown(EX_FAILURE)

    def stop(self, worker: Any) -> None:
        """Leave the app as it is: the pool, which stops after this step, may still need it."""
        if self._failed.value:
            worker.exitcode = EX_FAILURE  # for process managers: a cold shutdown exits with 0

    def terminate(self, worker: Any) -> None:
        """The same in a cold shutdown, in which Celery sends no signal: the app shuts down here."""
        self.stop(worker)
        if not self._forks:
            worker.pool.terminate()
            self._stop()

    def _start(self) -> bool:
        loop = process_of(self._app).loop
        self._celery.process_loop = loop
        try:
            loop.run(self._app.startup())
        except Exception as error:  # noqa: BLE001  whatever the user's start-up raises
            logger.critical("The app's start-up failed, so this worker cannot run: %r", error)
            return False
        return True

    def _start_child(self, **_: Any) -> None:
        if not self._start():
            with self._failed.get_lock():
                self._failed.value += 1
                is_first = self._failed.value == 1
            _wait_for_the_end(have_it_end=is_first)

    def _stop(self, **_: Any) -> None:
        loop = process_of(self._app).loop
        try:
            loop.run(self._app.shutdown())
        except Exception:
            logger.exception("The app's shutdown failed")
        finally:
            loop.stop()


def _wait_for_the_end(*, have_it_end: bool) -> NoReturn:
    """Wait until the parent ends this child; with `have_it_end`, ask the parent to shut down.

    SIGQUIT is Celery's cold shutdown; more of them would cut it short. If the child returned or
    exited instead, the pool would start new ones, for ever.
    """
    if have_it_end:
        os.kill(os.getppid(), signal.SIGQUIT)
    while True:
        signal.pause()
