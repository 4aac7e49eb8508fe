"""Keeps the errors of failed jobs with their tracebacks, which a worker lets go of."""

from collections.abc import Iterator
from traceback import format_exception
from types import TracebackType
from typing import Any

from celery import signals


class Failures:
    """What the bodies of one Celery app's jobs raised, by the ids of the jobs."""

    def __init__(self, celery: Any) -> None:
        self._celery = celery
        self._kept: dict[str, list[tuple[BaseException, TracebackType | None]]] = {}
        signals.task_failure.connect(self._keep, weak=False)

    def close(self) -> None:
        """Listen no more."""
        signals.task_failure.disconnect(self._keep)

    def error_of(self, job_id: str) -> BaseException | None:
        """What the job's body raised, with its traceback, and what that was caused by."""
        if (kept := self._kept.get(job_id)) is None:
            return None
        for error, trace in kept:
            error.__traceback__ = trace
        return kept[0][0]

    def _keep(self, sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
        if sender.app is self._celery:
            self._kept[task_id] = [(each, each.__traceback__) for each in _chain(exception)]


def raise_all(errors: list[BaseException]) -> None:
    """Raise the error, or of several an ExceptionGroup; nothing for none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} jobs failed", errors)


def text_of(error: BaseException) -> str:
    """The error as Python prints it."""
    return "".join(format_exception(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    waiting: list[BaseException | None] = [error]
    seen = set[int]()
    while waiting:
        each = waiting.pop(0)
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += (each.__cause__, each.__context__, *getattr(each, "exceptions", ()))
