"""Celery's Redis result backend: sticky at the end, strict, and never in the event loop's way."""

import contextvars
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Final

from celery import states
from celery.backends.redis import SentinelBackend as CelerySentinelBackend
from kombu.utils.url import maybe_sanitize_url
from redis import Connection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from service.errors import BrokerUnavailableError
from service.jobs.celery.capture import current_capture
from service.redis import cluster
from service.redis.clients import DRIVER
from service.results.model import State
from service.results.record import encode_queued, now
from service.worker.backend.canvas import CanvasBackend, End
from service.worker.backend.errback_calls import has_record
from service.worker.backend.events import event_of
from service.worker.backend.waiting import WaitingBackend
from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.process import process_of
from service.worker.results.record_builder import RecordBuilder
from service.worker.results.writer import RecordWrite, insist, store_blocking

# States that `job_changed` is sent for; worker/reporter.py sends it for jobs that run.
_SENT: Final = b"done"  # what Celery has in place of a claim, once the body is sent
_ANNOUNCED: Final = frozenset({states.RETRY, *states.READY_STATES})


class Backend(CanvasBackend, WaitingBackend):
    """Writes the records of Celery's own backend, with the task and the times of its states.

    Stock clients read these records as their own. On the event loop, records go through the
    loop's writer, and all other calls of Redis are made in a thread; elsewhere the synchronous
    client is used. One Lua script decides for both that a job that has ended stays ended.
    """

    connparams: dict[str, Any]  # celery-types lacks it

    # The script could not see the state in a compressed record.
    supports_result_compression = False

    def _add_driver_info(self) -> None:
        self.connparams["driver_info"] = DRIVER

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """As Celery does; the end of a job whose result is ignored is recorded, too."""
        if has_record(request) and (request.ignore_result or not store_result):
            self.store_result(task_id, None, state, request=request)
        super().mark_as_done(task_id, result, request, store_result, state)

    def get_key_for_task(self, task_id: str, key: Any = "") -> bytes:  # type: ignore[override]  # celery-types: str
        """As Celery's own, which checks the type of each part anew, three times for each job."""
        if key or not task_id or type(task_id) is not str:
            return super().get_key_for_task(task_id, key)  # type: ignore[return-value]  # as above
        return self._task_prefix + task_id.encode()

    def store_queued(
        self, task_id: str, name: str, queued_at: str, *, waits: bool = False, **more: Any
    ) -> None:
        """Record that a job is about to be sent; `more` is as `encode_queued` takes it.

        With `waits` Redis may be away for long, and it raises as `insist`; else
        BrokerUnavailableError.
        """
        self.body_is_sent()
        key = self.get_key_for_task(task_id)
        record = encode_queued(task_id, name, queued_at, **more)

        def store() -> None:
            self.client.set(key, record, nx=True, ex=self._records.open_ttl)

        if waits:
            insist(self.client, store)
            return
        try:
            store()
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
        _note_state(request, state)
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
            self._store_from_thread(make(), request)
        elif state == states.STARTED:
            if request is not None:
                request.has_started_on_loop = True
            if _ran_before(request):
                process.writer.put(make())  # or the attempt that a worker has lost is not noted
            else:
                process.writer.put_later(self.get_key_for_task(task_id), make_if_new)
        elif bridge is None:
            process.writer.put(make())  # of no job, and can't wait here without blocking the loop
        else:
            await_(process.writer.write(make()))
        if request is not None:
            request.is_stored = True
        self._announce(task_id, state, request, encoded, traceback)
        return encoded

    def _store_from_thread(self, write: RecordWrite, request: Any) -> None:
        if getattr(request, "has_started_on_loop", False):
            # Behind the record of the start, which may still be on its way.
            process = process_of(self.app.quart_app)
            process.loop.run(process.writer.write(write), contextvars.Context())
        else:
            store_blocking(self.client, write)

    def has_claimed_body(self, group: str) -> bool:
        """Whether somebody is about to send the body of a chord: it may be a worker that died.

        A claim ends by itself after some seconds.
        """
        claim = self.app.off_loop(lambda: self.client.get(self.get_key_for_group(group, ".c")))
        return claim not in (None, _SENT)

    def store_ends(self, requests: Sequence[Any], end: End) -> None:
        """Store how these jobs end, and wait until Redis has all of it."""
        encoded = self.encode_result(end.error, end.state)
        build = self._records.build
        writes = [build(one.id, encoded, end.state, end.traceback, one) for one in requests]
        process = process_of(self.app.quart_app)
        if not process.is_on_loop:
            for write in writes:
                store_blocking(self.client, write)
        elif current_bridge() is None:
            for write in writes:
                process.writer.put(write)
        else:
            await_(process.writer.write_all(writes))
        for request in requests:
            self._announce(request.id, end.state, request, encoded, end.traceback)

    def _announce(
        self, task_id: str, state: str, request: Any, encoded: Any, traceback: Any
    ) -> None:
        changed = self.app.signals.job_changed
        if state in _ANNOUNCED and changed.receivers:
            changed.send(event_of(task_id, state, request, encoded, traceback))

    def _ensure_retryable(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        retry: Any = super()._ensure_retryable  # type: ignore[misc]  # not in celery-types
        return self.app.off_loop(lambda: retry(function, *args, **options))

    def ensure(self, fun: Callable[..., Any], args: Any, **policy: Any) -> Any:
        """Celery's own, in a thread where the caller runs on the event loop.

        While a canvas is only read, as for the size of a chord, its sender does it.
        """
        call = partial(super().ensure, fun, args, **policy)
        if (capture := current_capture.get()) is not None:
            return capture.stores.append(call)
        return self.app.off_loop(call)

    @cached_property
    def _task_prefix(self) -> bytes:
        return self.key_t(self.task_keyprefix)

    @cached_property
    def _records(self) -> RecordBuilder:
        return RecordBuilder(self)


class SentinelBackend(Backend, CelerySentinelBackend):
    """The same behind Redis Sentinel, for `sentinel://` addresses."""


class ClusterBackend(Backend):
    """The same in one hash slot of a Redis Cluster, for `redis-cluster://` addresses."""

    url: str  # celery-types lacks it

    def as_uri(self, include_password: bool = False) -> str:
        """The addresses, without the passwords unless they are asked for."""
        if include_password:
            return self.url
        return ";".join(map(maybe_sanitize_url, self.url.split(";")))

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        first = cluster.one_address(url)
        if first.startswith("rediss:") and "ssl_cert_reqs=" not in first:
            first += ("&" if "?" in first else "?") + "ssl_cert_reqs=required"
        params: dict[str, Any] = super()._params_from_url(first, defaults)  # type: ignore[misc]  # not in celery-types
        kind = params.get("connection_class", Connection)
        params["connection_class"] = cluster.in_cluster(cluster.HashSlotConnection, kind)
        params["hash_slot"] = cluster.HashSlot.at(url, self._task_prefix.decode())
        # A node that has lost the hash slot is first found out by a command.
        params["retry"] = Retry(NoBackoff(), 1, (RedisConnectionError,))
        return params


def _note_state(request: Any, state: str) -> None:
    if request is None:
        return
    if state == states.STARTED:
        request.started_at = now()
    else:
        request.has_newer_state = True


def _ran_before(request: Any) -> bool:
    """Whether a worker has had the message before, and lost it."""
    delivery: Any = getattr(request, "delivery_info", None)
    return bool(delivery and delivery.get("redelivered"))
