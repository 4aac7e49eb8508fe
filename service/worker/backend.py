"""Celery's Redis result backend: sticky at the end, strict, and never in the event loop's way."""

import logging
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final

from celery import states
from celery.backends.redis import RedisBackend
from celery.backends.redis import SentinelBackend as CelerySentinelBackend
from redis.exceptions import RedisError, ResponseError

from service.broker.celery_worker import is_stopping
from service.errors import BrokerUnavailableError, ResultsUnavailableError, UnstorableResultError
from service.jobs.celery.app import QuartCelery
from service.parts import parts_of
from service.redis.transient import answer_of, will_pass
from service.results.model import State
from service.results.record import encode_job, encode_queued, now
from service.signals import JobEvent, job_changed, seconds_since_epoch
from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.lifespan import is_on_loop
from service.worker.results.writer import STORE, RecordWrite, ResultsWriter, get_writer
from service.worker.task.errbacks import calling_errbacks, errbacks_put_off, put_off_errbacks

logger: Final = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1  # seconds; doubled with each attempt
_LAST_PAUSE: Final = 5.0  # seconds
# The fields of a record that do not come from `result_extended`.
_BASIC: Final = frozenset({"status", "result", "traceback", "children", "date_done"})


# States that `job_changed` is sent for; worker/reporter.py sends it for jobs that run.
_ANNOUNCED: Final = frozenset({states.RETRY, *states.READY_STATES})


class Backend(RedisBackend):
    """Writes what Celery's own backend writes, and besides: the task, and when it was what.

    Stock clients read these records as their own. On the event loop, records go through the
    loop's writer, and whatever else asks Redis does it in a thread; elsewhere the synchronous
    client is used. One Lua script decides for both that a job that has ended stays ended.
    """

    app: QuartCelery

    # The script could not see in what state a compressed record is.
    supports_result_compression = False

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do not subscribe to the result of each job sent.

        Celery's own does: it blocks for 19 s when Redis is away, and leaks where nobody asks for
        the result (celery#6963). `AsyncResult.get` subscribes by itself.
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
        """As Celery does; of a job whose result is ignored, too, it is told that it has ended.

        Its id is known since it was enqueued, and must not be said to be queued for ever.
        """
        if _is_ignored(request, store_result):
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
        """As Celery does; a job whose result is ignored does not fail in silence either."""
        store_result = store_result or _is_ignored(request, store_result)
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
        super().mark_as_revoked(
            task_id, reason, request, store_result or _is_ignored(request, store_result), state
        )

    def get_key_for_task(self, task_id: str, key: Any = "") -> bytes:  # type: ignore[override]  # celery-types: str
        """As Celery's own, which asks of each part anew what it is, three times for each job."""
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
        """The record of a job that is `progress` far."""
        return self._write(request.id, progress, State.PROGRESS.value, None, request)

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

        That a job has started is not waited for. Raises UnstorableResultError, and
        ResultsUnavailableError where the worker has to stop meanwhile.
        """
        del options  # Celery's own takes and ignores any
        encoded = self.encode_result(result, state)
        if request is not None:
            if state == states.STARTED:
                request.started_at = now()
            else:
                request.has_newer_state = True

        def make() -> RecordWrite:
            return self._write(task_id, encoded, state, traceback, request)

        bridge = current_bridge()
        if (writer := self._writer_here) is None:
            self._store(make())
        elif state == states.STARTED:

            def make_if_new() -> RecordWrite | None:
                # A job that ended and stored nothing was replaced or given back: it may run
                # elsewhere. One that runs in a thread may have stored another state from there.
                is_over = bridge is not None and bridge.is_over
                return None if is_over or getattr(request, "has_newer_state", False) else make()

            writer.put_later(self.get_key_for_task(task_id), make_if_new)
        elif bridge is None:
            writer.put(make())  # of no job, and can't wait here without blocking the loop
        else:
            await_(writer.write(make()))
        if request is not None:
            request.stored_state = state
        if state in _ANNOUNCED and job_changed.receivers:
            job_changed.send_event(self.app.quart_app, _event(task_id, state, request))
        return encoded

    def _ensure_retryable(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def call() -> Any:
            return super(Backend, self)._ensure_retryable(function, *args, **options)  # type: ignore[misc]  # not in celery-types

        return self.app.off_loop(call)

    def ensure(self, fun: Callable[..., Any], args: Any, **policy: Any) -> Any:
        """Celery's own, in a thread where the caller runs on the event loop."""
        return self.app.off_loop(lambda: super(Backend, self).ensure(fun, args, **policy))

    def on_chord_part_return(self, *args: Any, **options: Any) -> None:
        """Celery's own, in a thread where the caller runs on the event loop; then the errbacks."""
        with errbacks_put_off() as put_off:
            self.app.off_loop(lambda: super(Backend, self).on_chord_part_return(*args, **options))
        for failure in put_off:
            try:
                self._call_task_errbacks(*failure)
            except Exception:
                logger.exception("The errbacks of a chord could not be called")

    def _call_task_errbacks(self, request: Any, exc: Any, traceback: Any) -> None:
        """Celery's own, in which those that it calls directly run as bodies do."""
        if put_off_errbacks(request, exc, traceback):
            return
        with calling_errbacks(request):
            super()._call_task_errbacks(request, exc, traceback)  # type: ignore[misc]  # not in celery-types

    def _write(
        self, task_id: str, result: Any, state: str, trace: Any, request: Any
    ) -> RecordWrite:
        record = encode_job(
            task_id,
            state,
            result,
            traceback=trace,
            children=self.current_task_children(request),
            request=request,
            extended=self._extended(request),
            arguments=self._shown_arguments(request),
            max_bytes=self.max_size,
        )
        ttl = self.failure_expires if state == states.FAILURE else self.expires  # type: ignore[attr-defined]  # not in celery-types
        return RecordWrite(
            key=self.get_key_for_task(task_id),
            record=record,
            ttl=int(ttl or 0),
            final=state in states.READY_STATES,
        )

    def _store(self, write: RecordWrite) -> None:
        """Store with the synchronous client, until Redis has it or the worker has to stop."""
        pause = _FIRST_PAUSE
        while True:
            try:
                (outcome,) = STORE.run_blocking(self.client, [write.key], [write.record, write.ttl])
            except ResponseError as error:
                outcome = answer_of(error)
            except (RedisError, OSError) as error:
                outcome = f"BUSY {error!r}"
            if isinstance(outcome, int):
                return
            reason = outcome.decode() if isinstance(outcome, bytes) else outcome
            if not will_pass(reason):
                raise UnstorableResultError(reason)
            if is_stopping():
                raise ResultsUnavailableError(reason)
            if pause == _FIRST_PAUSE:
                logger.warning("Redis is away, a result has to wait: %s", reason)
            # The address may lead to another server than this one by now.
            self.client.connection_pool.disconnect(inuse_connections=False)
            time.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    @property
    def _writer_here(self) -> ResultsWriter | None:
        """The loop's writer, if the caller runs on the loop."""
        app = self.app.quart_app
        return get_writer(app) if is_on_loop(app) else None

    @cached_property
    def extended(self) -> bool:
        """Whether `result_extended` is on: asking Celery's settings costs more than the rest."""
        return bool(self.app.conf.find_value_for_key("extended", "result"))

    def _extended(self, request: Any) -> dict[str, Any]:
        """What `result_extended` adds to a record."""
        if request is None or not self.extended:
            return {}
        meta: dict[str, Any] = self._get_result_meta(None, states.PENDING, None, request)  # type: ignore[attr-defined]  # not in celery-types
        return {key: value for key, value in meta.items() if key not in _BASIC}

    def _shown_arguments(self, request: Any) -> dict[str, Any] | None:
        """A job's arguments, where its task allows showing them."""
        task = None if request is None else self.tasks.get(getattr(request, "task", None))
        if task is None:
            return None
        return self.app.shown_arguments(task, request.args, request.kwargs)

    @cached_property
    def tasks(self) -> Any:
        """Celery's tasks by name; `app.tasks` takes a lock each time."""
        return self.app.tasks

    @cached_property
    def _task_prefix(self) -> bytes:
        return self.key_t(self.task_keyprefix)

    @cached_property
    def max_size(self) -> int:
        """Of a record, in bytes."""
        return parts_of(self.app.quart_app).settings.max_result


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


def _is_ignored(request: Any, store_result: bool) -> bool:
    """Whether a job's result is not wanted. Its record, which says QUEUED, has to say its end."""
    if request is None or getattr(request, "is_eager", False):
        return False
    return not store_result or bool(getattr(request, "ignore_result", False))


def _singles(result: Any) -> Iterator[Any]:
    """The results of single jobs in a group, also in the groups inside of it."""
    for part in result.results:
        if hasattr(part, "results"):
            yield from _singles(part)
        else:
            yield part
