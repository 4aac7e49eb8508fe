"""Finds the task that blocks the event loop, and names the line that it is on."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Mapping
from traceback import StackSummary, walk_stack
from typing import Final

from service.worker.loop.bridge import Bridge
from service.worker.loop.celery_stacks import job_of
from service.worker.loop.child_tasks import ChildCoroutine
from service.worker.loop.process_loop import ProcessLoop
from service.worker.pool.running_job import RunningJob

logger: Final = logging.getLogger(__name__)


class Watchdog:
    """Asks the loop, from a thread of its own, to call back, again and again.

    When it has not for `limit` seconds, and one step of one task has lasted since, that task is
    the culprit. A loop that is merely busy with many steps has none.
    """

    def __init__(self, loop: ProcessLoop, limit: float, running: Mapping[int, RunningJob]) -> None:
        self._loop = loop
        self._limit = limit
        self._stop = threading.Event()
        self._asked: float | None = None
        self._reported = False
        self._running = running

    def start(self) -> None:
        """Begin to watch, unless that is turned off."""
        if self._limit > 0:
            threading.Thread(target=self._watch, name="loop-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _watch(self) -> None:
        period = self._limit / 2
        suspect: tuple[int, int] | None = None
        before = time.monotonic()
        while not self._stop.wait(period):
            now = time.monotonic()
            overslept = now - before > period + self._limit
            before = now
            if self._asked is None or overslept:  # the whole machine slept, not the loop
                self._asked, self._reported, suspect = now, False, None
                self._loop.call_soon(self._answer)
            elif now - self._asked >= self._limit and not self._reported:
                # The task that the loop is in, and how many steps bridges have made until now.
                task = asyncio.current_task(self._loop.loop)
                seen, suspect = suspect, None if task is None else (id(task), Bridge.steps)
                if suspect is not None and suspect == seen:
                    self._report(now - self._asked)

    def _answer(self) -> None:
        self._asked = None

    def _report(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop.loop)
        innermost = sys._current_frames().get(self._loop.thread.ident or 0)  # noqa: SLF001  its only name
        if task is None or innermost is None:
            return
        self._reported = True
        job: object | None
        if isinstance(coroutine := task.get_coro(), ChildCoroutine):
            job = job_of(coroutine.context)
        else:
            # The loop is blocked, so the mapping does not change meanwhile.
            job = next((job for job in self._running.values() if job.task is task), None)
        # The line to look at is in the file of the job's function, not in what it calls.
        code = getattr(getattr(job, "function", None), "__code__", None)
        body = getattr(code, "co_filename", None)
        frames = StackSummary.extract(walk_stack(innermost))
        frame = next((each for each in frames if each.filename == body), frames[0])
        logger.warning(
            "The event loop has not turned for %.1f s: %s blocks it at %s:%s in %s: %s. Await what"
            " it waits for, use asyncio.to_thread, or make the task a plain `def`, which runs in a"
            " thread.",
            seconds,
            f"job {job!r}" if isinstance(job, RunningJob) else f"asyncio task {task.get_name()!r}",
            frame.filename,
            frame.lineno,
            frame.name,
            frame.line,
        )
