"""Writes records until Redis has them: those of many jobs at once on the loop, or one, blocking."""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice, repeat
from typing import Any, ClassVar, Final

import msgspec
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from service.broker.celery_worker import is_stopping
from service.errors import ResultsUnavailableError, UnstorableResultError
from service.redis.batcher import Batcher
from service.redis.script import Script, ScriptConnection
from service.redis.transient import answer_of, will_pass

logger: Final = logging.getLogger(__name__)

STORE: Final = Script.load("service.worker.results", "store")

_PAUSES: Final = (0.1, 0.2, 0.4, 0.8)  # seconds after each attempt; the last stays
_MAX_BATCH: Final = 500  # records in one script call, during which Redis serves nobody else
_MAX_BYTES: Final = 4_194_304  # of records in one script call, unless one alone has more
_ANSWER: Final = 5.0  # seconds for Redis to answer a batch; a busy loop may be late to read it
_LINGER: Final = 0.1  # seconds that a record put for later may wait while there is much to write
_LATER_AT_ONCE: Final = 100  # records made in one turn of the loop, which has jobs to serve


class RecordWrite(msgspec.Struct, frozen=True):
    """One record on its way to Redis. (A frozen dataclass takes several times as long to make.)"""

    key: bytes
    record: str
    ttl: int  # seconds; 0 is for ever
    final: bool  # the job has ended with it


class ResultsWriter:
    """Collects records while one batch is on its way; writes until Redis has them.

    Of the records of one job that wait for the next batch only the newest is written. That a job
    has started waits a tenth of a second where there is much to write: most have ended before
    anyone could have seen them start, and cost one write, and one record to be made.
    """

    def __init__(
        self, client: Redis, loop: asyncio.AbstractEventLoop, *, timeout: float = _ANSWER
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._connection = ScriptConnection(client, timeout=timeout)
        self._loop = loop
        self._waiting: dict[bytes, _PendingWrite] = {}
        self._batcher: Batcher[_PendingWrite] = Batcher(
            self._send, max_count=_MAX_BATCH, max_bytes=_MAX_BYTES
        )
        # What makes the record, and since when it waits; the longest-waiting first.
        self._later: dict[bytes, tuple[Callable[[], RecordWrite | None], float]] = {}
        self._lingering: asyncio.TimerHandle | None = None  # while `_later` is not empty
        self._sent_at = 0.0

    def put(self, write: RecordWrite) -> "_PendingWrite":
        """Have the record written soon, in place of an older one of its job that waits still.

        To be called on the loop.
        """
        self._later.pop(write.key, None)
        pending = self._waiting.get(write.key)
        if pending is None:
            pending = self._waiting[write.key] = _PendingWrite(write, len(write.record))
            self._batcher.add(pending)
        elif not pending.write.final:
            pending.write, pending.size = write, len(write.record)
        return pending

    def put_later(self, key: bytes, make: Callable[[], RecordWrite | None]) -> None:
        """Have a record made and written, unless a newer one of its job comes first.

        On a worker with little to do that is at once. `make` gives None where there is nothing to
        write any more. To be called on the loop.
        """
        now = self._loop.time()
        self._later.pop(key, None)
        self._later[key] = make, now
        if self._lingering is None:
            self._linger(self._wait_from(now))

    async def write(self, write: RecordWrite) -> None:
        """Write the record, and wait until Redis has it, however long it is away.

        Raises UnstorableResultError if Redis refuses this very record.
        """
        written: asyncio.Future[None] = self._loop.create_future()
        self.put(write).futures.append(written)
        await written

    async def write_all(self, writes: Sequence[RecordWrite]) -> None:
        """Write some records, as `write` does each."""
        written = [self._loop.create_future() for _ in writes]
        for write, future in zip(writes, written, strict=True):
            self.put(write).futures.append(future)
        await asyncio.gather(*written)

    async def close(self) -> None:
        """Drop the connection, and with it the records that have not been written by now."""
        self._later.clear()
        if self._lingering is not None:
            self._lingering.cancel()
        await self._batcher.close()
        await self._connection.disconnect()
        await self._client.aclose()

    def _linger(self, seconds: float) -> None:
        context = contextvars.Context()
        self._lingering = self._loop.call_later(seconds, self._write_later, context=context)

    def _wait_from(self, since: float) -> float:
        """Seconds that a record is still to wait which waits since then."""
        now = self._loop.time()
        return max(0.0, since + _LINGER - now) if now - self._sent_at <= _LINGER else 0.0

    def _write_later(self) -> None:
        self._lingering = None
        waiting = tuple(islice(self._later.items(), _LATER_AT_ONCE))
        due = [key for key, (_, since) in waiting if not self._wait_from(since)]
        makers = [self._later.pop(key)[0] for key in due]
        if self._later:
            self._linger(self._wait_from(next(iter(self._later.values()))[1]))
        for make in makers:
            try:
                if (write := make()) is not None:
                    self.put(write)
            except UnstorableResultError as error:
                logger.error("A record was not stored: %s", error)  # noqa: TRY400  no fault here
            except Exception:
                logger.exception("A record could not be made")

    async def _send(self, batch: list["_PendingWrite"]) -> None:
        self._sent_at = self._loop.time()
        keys: list[bytes] = []
        arguments: list[Any] = []
        for pending in batch:
            write = pending.write
            if self._waiting.get(write.key) is pending:
                del self._waiting[write.key]
            keys.append(write.key)
            arguments += (write.record, write.ttl)
        for pending, reason in zip(batch, await self._insist(keys, arguments), strict=True):
            pending.answer(reason)

    async def _insist(self, keys: list[bytes], arguments: list[Any]) -> list[str | None]:
        """Run the script until Redis has answered for every record: why it is not stored, if so."""
        waits = chain(_PAUSES, repeat(_PAUSES[-1]))
        is_away = False
        while True:
            try:
                outcomes = await self._connection.run(STORE, keys, arguments)
                refusals = [_refusal_of(outcome) for outcome in outcomes]
                reason = next((each for each in refusals if each and will_pass(each)), None)
            except ResponseError as error:
                reason = answer_of(error)
                if not will_pass(reason):
                    return [reason] * len(keys)
            except (RedisError, OSError) as error:
                reason = str(error) or f"no answer within {self._timeout:g} s"
            if reason is None:
                if is_away:
                    logger.warning("Redis is back: the results of %s jobs are stored", len(keys))
                return refusals
            # Also after an answer: the address may lead to another server than this one by now.
            await self._connection.disconnect()
            if not is_away:
                is_away = True
                logger.warning("Redis is away, %s results have to wait: %s", len(keys), reason)
            await asyncio.sleep(next(waits))


class _PendingWrite(msgspec.Struct, eq=False):
    """A record that waits to be written, and those that wait for it."""

    count: ClassVar[int] = 1
    is_wanted: ClassVar[bool] = True

    write: RecordWrite
    size: int  # of the record, in bytes
    futures: list[asyncio.Future[None]] = []

    def answer(self, reason: str | None) -> None:
        """Tell all that wait for the record why Redis refused it, or that it is stored."""
        if reason is not None and not self.futures:
            logger.error("A record was not stored: %s", reason)
        for future in self.futures:
            if future.done():  # cancelled
                continue
            if reason is None:
                future.set_result(None)
            else:
                future.set_exception(UnstorableResultError(reason))


def _refusal_of(outcome: Any) -> str | None:
    """Why Redis did not store a record, as the script answers; None if the script is content."""
    if isinstance(outcome, int):
        return None
    return outcome.decode(errors="replace") if isinstance(outcome, bytes) else str(outcome)


def store_blocking(client: BlockingRedis, write: RecordWrite) -> None:
    """Store a record with a blocking client, however long Redis is away. Raises as `insist`."""

    def store() -> str | None:
        (outcome,) = STORE.run_blocking(client, [write.key], [write.record, write.ttl])
        return _refusal_of(outcome)

    insist(client, store)


def insist(client: BlockingRedis, call: Callable[[], str | None]) -> None:
    """Make a call that stores a record until Redis takes it; it returns why Redis does not.

    Raises UnstorableResultError if Redis refuses this very record, and ResultsUnavailableError if
    the worker has to stop meanwhile.
    """
    waits = chain(_PAUSES, repeat(_PAUSES[-1]))
    is_away = False
    while True:
        try:
            reason = call()
        except ResponseError as error:
            reason = answer_of(error)
        except (RedisError, OSError) as error:
            reason = f"BUSY {error!r}"
        if reason is None:
            return
        if not will_pass(reason):
            raise UnstorableResultError(reason)
        if is_stopping():
            raise ResultsUnavailableError(reason)
        if not is_away:
            is_away = True
            logger.warning("Redis is away, a job's record has to wait: %s", reason)
        # The address may lead to another server than this one by now.
        client.connection_pool.disconnect(inuse_connections=False)
        time.sleep(next(waits))
