"""Raises an error of our choice inside a coroutine that is waiting."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from celery.exceptions import SoftTimeLimitExceeded

V = TypeVar("V")


class SoftLimitCancelledError(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft limit as a body meets it.

    Also a cancellation, because TaskGroup and `asyncio.timeout` clean up only for that.
    """


class Interruptible(Generic[V]):
    """Awaits a coroutine, into which `interrupt` raises an error at the point where it waits."""

    def __init__(self, coroutine: Coroutine[Any, Any, V]) -> None:
        self._coroutine = coroutine
        self._error: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` inside the coroutine. To be called on the loop that it runs on."""
        if self._task is not None:
            self._error = error
            self._task.cancel()

    @types.coroutine
    def run(self) -> Generator[Any, Any, V]:
        """Drive the coroutine by hand, to put the interrupting error in a cancellation's place."""
        self._task = asyncio.current_task()
        step = partial(self._coroutine.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # StopIteration is not generic
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001  it is handed on, not handled
                step = partial(self._coroutine.throw, self._take(error))
            else:
                step = partial(self._coroutine.send, value)

    def _take(self, error: BaseException) -> BaseException:
        if self._error is None or not isinstance(error, asyncio.CancelledError):
            return error
        chosen, self._error = self._error, None
        if self._task is not None:
            self._task.uncancel()  # nobody cancelled the job: it may catch the error and go on
        return chosen
