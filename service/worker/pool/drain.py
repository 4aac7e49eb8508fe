"""Ends the jobs of a worker that stops, in a time that is bounded whatever they do."""

import atexit
import logging
import time
from collections.abc import Mapping
from typing import Final

from service.broker.celery_worker import is_stopping_at_once
from service.worker.loop.process import WorkerProcess
from service.worker.loop.stop_limit import STOP_MARGIN
from service.worker.pool.main_thread import MainThread
from service.worker.pool.running_job import CANCEL_TIME, RunningJob

logger: Final = logging.getLogger(__name__)


class Drain:
    """Lets the jobs finish for the grace, then gives them back, which takes CANCEL_TIME at most.

    A second signal ends the grace. What has not ended then goes on until the process ends: its
    message goes back last of all, unless the job has ended by itself.
    """

    def __init__(
        self,
        process: WorkerProcess,
        main_thread: MainThread,
        running: Mapping[int, RunningJob],
        *,
        grace: float,
    ) -> None:
        self._loop = process.loop
        self._limit = process.stop_limit
        self._main_thread = main_thread
        self._running = running
        self._has_begun = False
        self._is_settled = False  # no job is being begun any more
        self._limit.on_signal = self._on_signal
        self._grace = grace

    def run(self) -> None:
        """End the jobs. In the main thread; the pool begins no more of them."""
        if self._has_begun:
            return
        self._has_begun = True
        grace = self._grace
        if (told_at := self._limit.told_at) is not None:
            grace = max(0.0, grace - (time.monotonic() - told_at))
        self._limit.allow(grace + CANCEL_TIME + STOP_MARGIN)
        self._loop.call_soon(self._settle)
        self._main_thread.make_calls_until(lambda: self._is_idle() or self._is_forced(), grace)
        if not self._is_idle():
            self._limit.allow(CANCEL_TIME + STOP_MARGIN)
            self._loop.call_soon(self._give_back)
            self._main_thread.make_calls_until(self._is_idle, CANCEL_TIME)
        if self._is_idle():
            self._main_thread.close()
        else:
            self._leave_behind()

    def _on_signal(self) -> None:
        """Heed a signal to stop. Called in the thread of the StopLimit."""
        self._main_thread.wake()  # it may sleep until something happens: Celery looks then
        if not self._has_begun:  # as the main thread waits for a server
            grace = self._grace if self._running and not self._is_forced() else 0.0
            self._limit.allow(grace + STOP_MARGIN)

    def _is_idle(self) -> bool:
        """Whether no job runs, nor will one begin."""
        return self._is_settled and not self._running

    def _is_forced(self) -> bool:
        """Whether the worker was told to stop without waiting for its jobs."""
        return self._limit.signals > 1 or is_stopping_at_once()

    def _leave_behind(self) -> None:
        for job in list(self._running.values()):
            logger.error("%r does not end: it goes on until the process ends", job)
            job.leave_to_the_end()
        self._main_thread.make_calls()
        self._loop.is_left = True
        atexit.register(self._main_thread.make_calls)  # acknowledges what has ended by then

    # The rest runs on the loop.

    def _settle(self) -> None:
        self._is_settled = True
        self._main_thread.wake()

    def _give_back(self) -> None:
        running = list(self._running.values())
        returning = sum(job.can_go_back for job in running)
        logger.warning(
            "The worker stops: %s jobs go back to the queue, %s have failed",
            returning,
            len(running) - returning,
        )
        for job in running:
            job.give_back()
