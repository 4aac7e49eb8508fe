"""Calls the errbacks of jobs as bodies are run, and those of one end once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from socket import gethostname
from typing import Any, Final

from billiard.process import current_process
from celery.backends.redis import RedisBackend
from celery.utils.collections import LimitedSet
from redis.exceptions import RedisError

from service.jobs.celery.app import QuartCelery
from service.parts import parts_of
from service.redis.keys import ResultKeys
from service.worker.task.errbacks import calling_errbacks

_ONCE: Final = 30  # seconds for which it is known who calls a job's errbacks, or that all are
_CALLED: Final = b"called"

_ended: Final[Any] = LimitedSet(maxlen=10_000, expires=_ONCE)  # bodies of chords, by id
_ending: Final = threading.Lock()


class ErrbackBackend(RedisBackend):
    """The part of our result backend that calls errbacks."""

    app: QuartCelery

    def call_errbacks_once(self, request: Any, exc: Any, traceback: Any) -> None:
        """Call the job's errbacks, unless another one calls them now, or has of late.

        The end of a job may be met in two places at once: its worker's main thread may be told to
        revoke a job while the pool refuses it, or give up a message whose job has failed.
        """
        with terminated_later():
            if not has_record(request):
                self._call_task_errbacks(request, exc, traceback)
            elif self._redis(lambda: self._claim(request), otherwise=True):
                self._call_task_errbacks(request, exc, traceback)
                key = self._keys.errbacks(request.id)
                self._redis(lambda: self.client.set(key, _CALLED, ex=_ONCE), otherwise=None)

    def _claim(self, request: Any) -> bool:
        """Whether this process is to call them: nobody has, or the one that was to has died."""
        key, name = self._keys.errbacks(request.id), f"{gethostname()} {os.getpid()}".encode()
        if self.client.set(key, name, nx=True, ex=_ONCE):
            return True
        holder: Any = self.client.get(key)
        if holder is None or not _has_died(holder):
            return False
        return bool(self.client.set(key, name, ex=_ONCE, get=True) == holder)

    def _redis(self, call: Callable[[], Any], *, otherwise: Any) -> Any:
        try:
            return self.app.off_loop(call)
        except (RedisError, OSError):
            return otherwise

    def _call_task_errbacks(self, request: Any, exc: Any, traceback: Any) -> None:
        """Celery's own, which calls some errbacks directly: these run as bodies do."""
        if request.errbacks:
            with calling_errbacks(request):
                super()._call_task_errbacks(request, exc, traceback)  # type: ignore[misc]  # not in celery-types

    @cached_property
    def _keys(self) -> ResultKeys:
        return parts_of(self.app.quart_app).keys


def has_record(request: Any) -> bool:
    """Whether the job has a record, which says QUEUED and must not say so for ever."""
    return request is not None and not getattr(request, "is_eager", False)


def begin_to_end(body_id: str) -> bool:
    """Whether this process does not end this body of a chord by another thread, or has of late."""
    with _ending:
        is_first = body_id not in _ended
        _ended.add(body_id)
    return is_first


@contextmanager
def terminated_later() -> Iterator[None]:
    """In a child of prefork's, have a SIGTERM wait: Celery sends it to cancel the job.

    It must not end the process between a claim, on the errbacks or the body of a chord, and what
    is claimed: the parent, which ends the job as well, would find that somebody else does it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and current_process().daemon):  # as the processes of a pool are
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            signal.raise_signal(signal.SIGTERM)


def _has_died(name: bytes) -> bool:
    """Whether the process of this name was one of this host's, and is no more."""
    host, _, pid = name.rpartition(b" ")
    if host.decode() != gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False
