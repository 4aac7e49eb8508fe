"""Has a child of prefork's do what its parent is to see done, which itself runs no user's code."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from celery import Celery

from service.worker.loop.process import process_of

logger: Final = logging.getLogger(__name__)
_WAIT: Final = 30.0  # seconds that a thread beside the main one waits for a child


class HandedOver:
    """What children are doing for one request, and what is to be done after it."""

    def __init__(self) -> None:
        self._open = 0
        self._after: list[Callable[[], object]] = []

    def begin(self) -> None:
        """A child was given something."""
        self._open += 1

    def end(self) -> None:
        """It has done that, or never will."""
        self._open -= 1
        while not self._open and self._after:
            self._after.pop(0)()

    def then(self, call: Callable[[], object]) -> None:
        """Do this after it; at once where there is nothing."""
        if self._open:
            self._after.append(call)
        else:
            call()


_handed: Final[ContextVar[HandedOver | None]] = ContextVar("handed_over", default=None)


@contextmanager
def handing_over() -> Iterator[None]:
    """Let the end of a job, which Celery's parent process stores meanwhile, wait for children."""
    token = _handed.set(HandedOver())
    try:
        yield
    finally:
        _handed.reset(token)


def after_children(call: Callable[[], object]) -> None:
    """Do this when children have done what they were given in this block, which may be nothing."""
    if (handed := _handed.get()) is None:
        call()
    else:
        handed.then(call)


def done_by_child(
    app: Celery, call: Callable[..., object], args: tuple[Any, ...], otherwise: Callable[[], object]
) -> bool:
    """In prefork's parent, have a child make this call; elsewhere answer False.

    If the child dies of it, or the call fails, the parent does what it can do itself: `otherwise`.
    The main thread does not wait, as a blocked parent stops the whole worker; others do.
    """
    quart_app: Any = getattr(app, "quart_app", None)
    if (pool := process_of(quart_app).prefork_pool) is None:
        return False
    handed, is_done = _handed.get(), threading.Event()
    if handed is None and threading.current_thread() is threading.main_thread():
        return False

    def finish(_: object = None) -> None:
        is_done.set()
        if handed is not None:
            handed.end()

    def fail(error: object) -> None:
        logger.warning("A child did not do what its parent gave it: %s", error)
        try:
            otherwise()
        finally:
            finish()

    if handed is not None:
        handed.begin()
    if pool.apply_async(call, args, callback=finish, error_callback=fail) is None:
        finish()  # the pool stops
        return False
    return handed is not None or is_done.wait(_WAIT)
