"""Celery's Redis result backend: sticky at the end, strict, and never in the event loop's way."""

import logging
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final

from celery import states
from celery.backends.redis import RedisBackend
from celery.backends.redis import SentinelBackend as CelerySentinelBackend
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError
from service.jobs.celery.app import QuartCelery
from service.results.model import State
from service.results.record import encode_queued, now
from service.signals import JobEvent, seconds_since_epoch
from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.process import process_of
from service.worker.results.record_builder import RecordBuilder
from service.worker.results.writer import RecordWrite, store_blocking
from service.worker.task.errbacks import calling_errbacks, defer_errbacks, deferred_errbacks

logger: Final = logging.getLogger(__name__)

# States that `job_changed` is sent for; worker/reporter.py sends it for jobs that run.
_ANNOUNCED: Final = frozenset({states.RETRY, *states.READY_STATES})


class Backend(RedisBackend):
    """Writes the records of Celery's own backend, with the task and the times of its states.

    Stock clients read these records as their own. On the event loop, records go through the
    loop's writer, and all other calls of Redis are made in a thread; elsewhere the synchronous
    client is used. One Lua script decides for both that a job that has ended stays ended.
    """

    app: QuartCelery

    # The script could not see the state in a compressed record.
    supports_result_compression = False

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do not subscribe to the result of each job sent.

        Celery's own backend does: it blocks for 19 s when Redis is away, and leaks where nobody
        asks for the result (celery#6963). `AsyncResult.get` subscribes by itself.
        """

    def add_pending_result(
        self, result: Any, weak: bool = False, start_drainer: bool = True
    ) -> Any:
        """Do not subscribe to a result before somebody waits for it.

        Celery's groups and chords ask for each of their results as soon as they are sent: that
        blocks, and holds subscriptions that nobody may ever need.
        """
        return result

    def wait_for_pending(self, result: Any, *args: Any, **options: Any) -> Any:
        """Subscribe, and wait for one result: `AsyncResult.get` ends here."""
        super().add_pending_result(result)
        return super().wait_for_pending(result, *args, **options)

    def iter_native(  # type: ignore[override]  # celery-types: None
        self, result: Any, no_ack: bool = True, **options: Any
    ) -> Iterator[Any]:
        """Subscribe, and wait for the results of a group: its `get` ends here."""
        for single in _singles(result):
            super().add_pending_result(single)
        yield from super().iter_native(result, no_ack=no_ack, **options)  # type: ignore[misc]  # as above

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """As Celery does; the end of a job whose result is ignored is recorded, too."""
        if _has_record(request) and (request.ignore_result or not store_result):
            self.store_result(task_id, None, state, request=request)
        super().mark_as_done(task_id, result, request, store_result, state)

    def mark_as_failure(  # noqa: PLR0913, PLR0917  Celery's own
        self,
        task_id: str,
        exc: Exception,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """As Celery does; the same for a job whose result is ignored."""
        store_result = store_result or _has_record(request)
        super().mark_as_failure(
            task_id, exc, traceback, request, store_result, call_errbacks, state
        )

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """As Celery does; the same for a job whose result is ignored."""
        store_result = store_result or _has_record(request)
        super().mark_as_revoked(task_id, reason, request, store_result, state)

    def get_key_for_task(self, task_id: str, key: Any = "") -> bytes:  # type: ignore[override]  # celery-types: str
        """As Celery's own, which checks the type of each part anew, three times for each job."""
        if key or not task_id or type(task_id) is not str:
            return super().get_key_for_task(task_id, key)  # type: ignore[return-value]  # as above
        return self._task_prefix + task_id.encode()

    def store_queued(self, task_id: str, name: str, queued_at: str) -> None:
        """Record that a job is about to be sent. Raises BrokerUnavailableError."""
        record = encode_queued(task_id, name, queued_at)
        try:
            self.client.set(
                self.get_key_for_task(task_id),
                record,
                nx=True,
                ex=self.expires or None,  # type: ignore[attr-defined]  # not in celery-types
            )
        except (RedisError, OSError) as error:
            raise BrokerUnavailableError(str(error) or type(error).__name__) from error

    def progress_write(self, request: Any, progress: dict[str, Any]) -> RecordWrite:
        """The record of a job that has made this progress."""
        return self._records.build(request.id, progress, State.PROGRESS.value, None, request)

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **options: Any,
    ) -> Any:
        """Store a job's state, and wait until Redis has it; it may be away for long.

        A start is not waited for. Raises UnstorableResultError, and ResultsUnavailableError where
        the worker has to stop meanwhile.
        """
        del options  # Celery's own takes and ignores any
        encoded = self.encode_result(result, state)
        if request is not None:
            if state == states.STARTED:
                request.started_at = now()
            else:
                request.has_newer_state = True
        bridge = current_bridge()

        def make() -> RecordWrite:
            return self._records.build(task_id, encoded, state, traceback, request)

        def make_if_new() -> RecordWrite | None:
            # A job that ended and stored nothing was replaced or given back: it may run
            # elsewhere. One that runs in a thread may have stored another state from there.
            is_over = bridge is not None and bridge.is_over
            return None if is_over or getattr(request, "has_newer_state", False) else make()

        process = process_of(self.app.quart_app)
        if not process.is_on_loop:
            store_blocking(self.client, make())
        elif state == states.STARTED:
            process.writer.put_later(self.get_key_for_task(task_id), make_if_new)
        elif bridge is None:
            process.writer.put(make())  # of no job, and can't wait here without blocking the loop
        else:
            await_(process.writer.write(make()))
        if request is not None:
            request.is_stored = True
        changed = self.app.signals.job_changed
        if state in _ANNOUNCED and changed.receivers:
            changed.send(_event(task_id, state, request))
        return encoded

    def _ensure_retryable(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        retry: Any = super()._ensure_retryable  # type: ignore[misc]  # not in celery-types
        return self.app.off_loop(lambda: retry(function, *args, **options))

    def ensure(self, fun: Callable[..., Any], args: Any, **policy: Any) -> Any:
        """Celery's own, in a thread where the caller runs on the event loop."""
        ensure = super().ensure
        return self.app.off_loop(lambda: ensure(fun, args, **policy))

    def on_chord_part_return(self, *args: Any, **options: Any) -> None:
        """Celery's own, in a thread where the caller runs on the event loop; then the errbacks."""
        count_down = super().on_chord_part_return
        with deferred_errbacks() as deferred:
            self.app.off_loop(lambda: count_down(*args, **options))
        for call_errbacks in deferred:
            try:
                call_errbacks()
            except Exception:
                logger.exception("The errbacks of a chord could not be called")

    def _call_task_errbacks(self, request: Any, exc: Any, traceback: Any) -> None:
        """Celery's own, which calls some errbacks directly: these run as bodies do."""
        if not defer_errbacks(lambda: self._call_task_errbacks(request, exc, traceback)):
            with calling_errbacks(request):
                super()._call_task_errbacks(request, exc, traceback)  # type: ignore[misc]  # not in celery-types

    @cached_property
    def _task_prefix(self) -> bytes:
        return self.key_t(self.task_keyprefix)

    @cached_property
    def _records(self) -> RecordBuilder:
        return RecordBuilder(self)


class SentinelBackend(Backend, CelerySentinelBackend):
    """The same behind Redis Sentinel, for `sentinel://` addresses."""


def _event(task_id: str, state: str, request: Any) -> JobEvent:
    task = getattr(request, "task", None)
    at = time.time()
    return JobEvent(
        task_id,
        state,
        task if isinstance(task, str) else "",
        at,
        getattr(request, "hostname", None),
        seconds_since_epoch(getattr(request, "queued_at", None)),
        seconds_since_epoch(getattr(request, "started_at", None)),
        at if state in states.READY_STATES else None,
        getattr(request, "retries", None) or 0,
    )


def _has_record(request: Any) -> bool:
    """Whether the job has a record, which says QUEUED and must not say so for ever."""
    return request is not None and not getattr(request, "is_eager", False)


def _singles(result: Any) -> Iterator[Any]:
    """The results of the single jobs in a group, and in the groups inside of it."""
    for part in result.results:
        if hasattr(part, "results"):
            yield from _singles(part)
        else:
            yield part
