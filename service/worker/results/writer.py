"""Writes records from the event loop: those of many jobs in one round trip."""

import asyncio
import contextvars
import logging
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from service.errors import UnstorableResultError
from service.redis.batcher import Batcher
from service.redis.script_connection import ScriptConnection
from service.redis.transient import answer_of, will_pass
from service.worker.results.record_write import STORE, RecordWrite, pauses, refusal_of

logger: Final = logging.getLogger(__name__)

_MAX_BATCH: Final = 500  # records in one script call, during which Redis serves nobody else
_MAX_BYTES: Final = 4_194_304  # of records in one script call, unless one alone has more
_ANSWER: Final = 5.0  # seconds for Redis to answer a batch; a busy loop may be late to read it
_LINGER: Final = 0.1  # seconds that a record put for later may wait while there is much to write
_LATER_AT_ONCE: Final = 100  # records made in one turn of the loop, which has jobs to serve


class ResultsWriter:
    """Collects records while one batch is on its way; writes until Redis has them.

    Of the records of one job that wait for the next batch only the newest is written. That a job
    has started waits longer where there is much to write: most have ended before anyone could
    have seen them start, and cost one write, and one record to be made.
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
        self._later: dict[bytes, Callable[[], RecordWrite | None]] = {}
        self._lingering: asyncio.TimerHandle | None = None  # while `_later` is not empty
        self._sent_at = 0.0

    def put(self, write: RecordWrite) -> None:
        """Have the record written soon. To be called on the loop."""
        self._add(write)

    def put_later(self, key: bytes, make: Callable[[], RecordWrite | None]) -> None:
        """Have a record made and written, unless a newer one of its job comes first.

        On a worker with little to do that is at once. `make` gives None where there is nothing to
        write any more. To be called on the loop.
        """
        self._later[key] = make
        if self._lingering is None:
            self._linger(0 if self._loop.time() - self._sent_at > _LINGER else _LINGER)

    async def write(self, write: RecordWrite) -> None:
        """Write the record, and wait until Redis has it, however long it is away.

        Raises UnstorableResultError if Redis refuses this very record.
        """
        written: asyncio.Future[None] = self._loop.create_future()
        self._add(write).futures.append(written)
        await written

    async def close(self) -> None:
        """Drop the connection, and with it the records that have not been written by now."""
        self._later.clear()
        if self._lingering is not None:
            self._lingering.cancel()
        await self._connection.disconnect()
        await self._client.aclose()

    def _linger(self, seconds: float) -> None:
        context = contextvars.Context()
        self._lingering = self._loop.call_later(seconds, self._write_later, context=context)

    def _write_later(self) -> None:
        self._lingering = None
        keys = tuple(islice(self._later, _LATER_AT_ONCE))
        if len(keys) < len(self._later):
            self._linger(0)
        for key in keys:
            make = self._later.pop(key)
            try:
                if (write := make()) is not None:
                    self.put(write)
            except UnstorableResultError as error:
                logger.error("A record was not stored: %s", error)  # noqa: TRY400  no fault here
            except Exception:
                logger.exception("A record could not be made")

    def _add(self, write: RecordWrite) -> "_PendingWrite":
        """Have the record written in place of an older one of its job that waits still."""
        self._later.pop(write.key, None)
        pending = self._waiting.get(write.key)
        if pending is None:
            pending = self._waiting[write.key] = _PendingWrite(write)
            self._batcher.add(pending)
        elif not pending.write.final:
            pending.write = write
        return pending

    async def _send(self, batch: list["_PendingWrite"]) -> None:
        self._sent_at = self._loop.time()
        keys: list[bytes] = []
        arguments: list[Any] = []
        for pending in batch:
            write = pending.write
            del self._waiting[write.key]
            keys.append(write.key)
            arguments += (write.record, write.ttl)
        for pending, outcome in zip(batch, await self._insist(keys, arguments), strict=True):
            pending.answer(outcome)

    async def _insist(self, keys: list[bytes], arguments: list[Any]) -> list[Any]:
        """Run the script until Redis has answered for every record."""
        waits = pauses()
        is_away = False
        while True:
            try:
                outcomes = await self._connection.run(STORE, keys, arguments)
                refusals = map(refusal_of, outcomes)
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
                return outcomes
            # Also after an answer: the address may lead to another server than this one by now.
            await self._connection.disconnect()
            if not is_away:
                is_away = True
                logger.warning("Redis is away, %s results have to wait: %s", len(keys), reason)
            await asyncio.sleep(next(waits))


class _PendingWrite:
    """A record that waits to be written, and those that wait for it."""

    __slots__ = ("futures", "write")

    count = 1
    is_wanted = True

    def __init__(self, write: RecordWrite) -> None:
        self.write = write
        self.futures: list[asyncio.Future[None]] = []

    @property
    def size(self) -> int:
        """Of the record, in bytes."""
        return len(self.write.record)

    def answer(self, outcome: Any) -> None:
        """Give the answer of Redis to all that wait for the record."""
        reason = refusal_of(outcome)
        if reason is not None and not self.futures:
            logger.error("A record was not stored: %s", reason)
        for future in self.futures:
            if future.done():  # cancelled
                continue
            if reason is None:
                future.set_result(None)
            else:
                future.set_exception(UnstorableResultError(reason))
