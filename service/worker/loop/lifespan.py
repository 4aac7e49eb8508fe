"""The app's own start-up and shutdown around a process that runs jobs, on the loop of the jobs."""

import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
from typing import Any, Final, NoReturn

from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.platforms import EX_FAILURE
from kombu.common import ignore_errors

from service.broker.celery_worker import is_stopping_at_once, require_descriptors
from service.broker.leases.registry import leave_brokers
from service.jobs.celery.app import QuartCelery
from service.worker.loop.process import process_of
from service.worker.loop.stop_limit import STOP_MARGIN

logger: Final = logging.getLogger(__name__)

_APP_SHUTDOWN: Final = 15.0  # seconds for the app's own shutdown
_PARENT_ENDS: Final = 1.0  # seconds until prefork's parent has heard that it is to end


class LifespanStep(bootsteps.StartStopStep):
    """Runs `before_serving`, `while_serving` and `after_serving` once per process that runs jobs.

    Such a process is the worker itself, but under prefork each of its children. Around it, Celery's
    `worker_process_init` and `worker_process_shutdown` are sent, as prefork does by itself.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._worker = worker
        self._celery: QuartCelery = worker.app
        self._app = self._celery.quart_app
        self._is_stopped = False

    def create(self, worker: Any) -> None:
        """Find out where jobs will run, before the pool is started."""
        self._forks = issubclass(worker.pool_cls, PreforkPool)
        # How many processes failed to start; shared with the children that are forked later.
        self._failed = multiprocessing.get_context("fork").Value("i", 0)
        if self._forks:
            signals.worker_process_init.connect(self._start_child, weak=False)
            signals.worker_process_shutdown.connect(self._stop, weak=False)
            # A full pass of the garbage collector writes to each object that it looks at. In a
            # child that would make a copy of nearly all memory that it shares with its parent.
            gc.collect()
            gc.freeze()

    def start(self, worker: Any) -> None:
        """Start the app, unless children run the jobs. Ends the worker where that fails."""
        process = process_of(self._app)
        process.stop_limit.start(worker)
        if self._forks:
            process.prefork_pool = worker.pool
        else:
            if not issubclass(worker.pool_cls, SoloPool):  # which has sent it already
                signals.worker_process_init.send(sender=worker.hostname)
            if not self._start():
                self._stop()
                raise WorkerShutdown(EX_FAILURE)
            process.stop_limit.last_acts.append(self._stop_app)
        process.stop_limit.last_acts.append(leave_brokers)
        try:
            require_descriptors()
        except OSError as error:
            logger.critical("This worker cannot run: %s", error)
            raise WorkerShutdown(EX_FAILURE) from error

    def close(self, worker: Any) -> None:
        """Stop the pool.

        Celery closes all steps before it stops the first. Its own stop of the pool comes after the
        consumer's farewells, each of which waits for the broker where that is hung.
        """
        if (consumer := worker.consumer.task_consumer) is not None:
            ignore_errors(worker.consumer, consumer.cancel)
        (worker.pool.terminate if is_stopping_at_once() else worker.pool.stop)()
        process_of(self._app).stop_limit.allow(STOP_MARGIN)

    def stop(self, worker: Any) -> None:
        """Stop the app, unless children ran it."""
        if self._failed.value:
            worker.exitcode = EX_FAILURE  # for process managers: a cold shutdown exits with 0
        if not self._forks:
            limit = process_of(self._app).stop_limit
            limit.allow(_APP_SHUTDOWN)
            self._stop()
            limit.allow(STOP_MARGIN)

    def terminate(self, worker: Any) -> None:
        """The same in a cold shutdown."""
        error = sys.exception()
        if isinstance(error, WorkerTerminate) and error.__cause__ is not None:
            # Celery ends it for want of descriptors, has said so, and then drops this exit code.
            worker.exitcode = error.code
        self.stop(worker)

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
            _end_child(have_parent_end=is_first)

    def _stop(self, **_: Any) -> None:
        self._stop_app()
        process_of(self._app).loop.stop()

    def _stop_app(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        if not self._forks:  # prefork sends it in each child
            exitcode = self._worker.exitcode or 0
            signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=exitcode)
        loop = process_of(self._app).loop
        if not loop.turns():
            logger.error("A job blocks the event loop, so the app's shutdown is not run")
            return
        try:
            loop.run(self._app.shutdown())
        except Exception:
            logger.exception("The app's shutdown failed")


def _end_child(*, have_parent_end: bool) -> NoReturn:
    """End this child of a pool; with `have_parent_end`, first ask the parent to shut down.

    SIGQUIT is Celery's cold shutdown; a second one would cut it short. A parent that shuts down
    starts no child in place of this one, and waits for the others. Before it has heard the signal
    it would start one, so this child waits a moment before it ends.
    """
    if have_parent_end:
        os.kill(os.getppid(), signal.SIGQUIT)
    time.sleep(_PARENT_ENDS)
    os._exit(EX_FAILURE)
