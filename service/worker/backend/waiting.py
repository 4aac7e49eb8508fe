"""Waits for results, as `AsyncResult.get` and its like do, with no subscription before."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from itertools import islice
from typing import Any, Final

from celery.backends.redis import RedisBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError

from service.errors import ResultsUnavailableError, TooManyWaitersError
from service.jobs.celery.app import QuartCelery
from service.parts import parts_of
from service.redis.deadline import Deadline
from service.results.follower import Change, Follower, NoChange
from service.results.store import StoredRecord
from service.results.watcher import Watcher
from service.worker.loop.bridge import await_

_FOREVER: Final = 1e8  # seconds
_INTERVAL: Final = 0.5  # seconds between two calls of `on_interval`; Celery's own default
_AT_ONCE: Final = 1_000  # jobs that are followed for one who waits for more


class WaitingBackend(RedisBackend):
    """The part of our result backend that waits.

    Code on the event loop waits there, without a thread of its own: were it in one of those for
    blocking calls, some jobs that wait for others would keep these from sending any.
    """

    app: QuartCelery

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do not subscribe to the result of each job sent.

        Celery's own does: it blocks for 19 s when Redis is away, and leaks (celery#6963).
        """

    def add_pending_result(
        self, result: Any, weak: bool = False, start_drainer: bool = True
    ) -> Any:
        """Do not subscribe to a result before somebody waits for it.

        Celery's groups and chords ask for each of their results as soon as they are sent: that
        blocks, and holds subscriptions that nobody may ever need.
        """
        return result

    def wait_for_pending(  # type: ignore[override]  # celery-types: other names
        self, result: Any, *, on_interval: Any = None, **options: Any
    ) -> Any:
        """Wait for one result: `AsyncResult.get` ends here.

        `on_interval` raises the error of an earlier step, which may have failed a moment ago.
        """
        propagate, callback = options.pop("propagate", True), options.pop("callback", None)
        if self.app.loop_here is not None:
            for _ in self._ended([result], on_interval=on_interval, **options):
                pass
        else:
            super().add_pending_result(result)
            super().wait_for_pending(result, on_interval=on_interval, propagate=False, **options)
        if on_interval is not None and not result.successful():
            on_interval()
        return result.maybe_throw(propagate=propagate, callback=callback)

    def iter_native(  # type: ignore[override]  # celery-types: None
        self, result: Any, no_ack: bool = True, **options: Any
    ) -> Iterator[Any]:
        """Wait for the results of a group: its `get` ends here."""
        if self.app.loop_here is not None:
            groups = [part for part in result.results if hasattr(part, "results")]
            yield from ((group.id, group.children) for group in groups)
            singles = [part for part in result.results if not hasattr(part, "results")]
            yield from ((each.id, each._cache) for each in self._ended(singles, **options))  # noqa: SLF001
            return
        for single in _singles(result):
            super().add_pending_result(single)
        yield from super().iter_native(result, no_ack=no_ack, **options)  # type: ignore[misc]  # as above

    def _ended(
        self,
        results: Iterable[Any],
        *,
        timeout: float | None = None,
        interval: float = _INTERVAL,
        on_interval: Any = None,
        on_message: Any = None,
        **_: Any,
    ) -> Iterator[Any]:
        """Each of Celery's results, its job's record in its cache, as soon as the job has ended.

        From a bridge. Raises Celery's TimeoutError.
        """
        by_id: dict[str, list[Any]] = {}
        for result in results:
            by_id.setdefault(result.id, []).append(result)
        watcher = parts_of(self.app.quart_app).watcher
        for record in _ended_records(watcher, by_id, timeout or _FOREVER, interval or _INTERVAL):
            if record is None:
                if on_interval is not None:
                    on_interval()
                continue
            meta = self.decode(record.data)
            if on_message is not None:
                on_message(meta)
            for result in by_id[record.job_id]:
                result._maybe_set_cache(meta)  # noqa: SLF001  as Celery's consumer does
                yield result


def _ended_records(
    watcher: Watcher, job_ids: Iterable[str], timeout: float, interval: float
) -> Iterator[StoredRecord | None]:
    """The record of each job that has ended, and None after each interval in which none has."""
    waiting, ends_at = dict.fromkeys(job_ids), time.monotonic() + timeout
    while waiting:
        some = [*islice(waiting, _AT_ONCE)]
        follower = await_(_follow(watcher, some, interval, ends_at))
        if follower is None:
            yield None
            continue
        with closing(follower):
            ended = [record for record in follower.records.values() if record.result.ready]
            while True:
                for record in ended:
                    waiting.pop(record.job_id, None)
                    yield record
                if not any(job_id in waiting for job_id in some):
                    break
                change = await_(_next_change(follower, ends_at))
                found = change.record if isinstance(change, Change) else None
                ended = [found] if found and found.result.ready else []
                if isinstance(change, NoChange):
                    yield None
                    if any(job_id not in follower.records for job_id in some):
                        break  # a job without a record is not followed, and may have one now


async def _follow(
    watcher: Watcher, job_ids: list[str], interval: float, ends_at: float
) -> Follower | None:
    """A follower of the jobs; None, after the interval, where they cannot be followed now."""
    try:
        async with _until(ends_at):
            return await watcher.follow(*job_ids, interval=interval)
    except (ResultsUnavailableError, TooManyWaitersError):
        async with _until(ends_at):
            await asyncio.sleep(interval)
        return None


@asynccontextmanager
async def _until(ends_at: float) -> AsyncIterator[None]:
    """Raise Celery's TimeoutError when the time, by the monotonic clock, has come."""
    try:
        async with Deadline(ends_at - time.monotonic()):
            yield
    except TimeoutError as error:
        raise CeleryTimeoutError("The operation timed out.") from error


async def _next_change(follower: Follower, ends_at: float) -> Change | NoChange:
    async with _until(ends_at):
        change = await anext(follower, None)
    if change is None:
        raise ResultsUnavailableError("the worker stops")
    return change


def _singles(result: Any) -> Iterator[Any]:
    """The results of the single jobs in a group, and in the groups inside of it."""
    for part in result.results:
        if hasattr(part, "results"):
            yield from _singles(part)
        else:
            yield part
