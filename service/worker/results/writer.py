"""Writes records to Redis from the event loop: those of many jobs in one round trip."""

import asyncio
import contextvars
import logging
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from quart import Quart
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from service.errors import UnstorableResultError
from service.parts import parts_of
from service.redis.clients import connect
from service.worker.loop.lifespan import get_loop
from service.worker.results.record_write import STORE, Entry, answer_of, will_pass

logger: Final = logging.getLogger(__name__)

_EXTENSION: Final = "service.results_writer"
_MAX_BATCH: Final = 500  # records in one script call, during which Redis serves nobody else
_MAX_BYTES: Final = 4_194_304  # of records in one script call, unless one alone has more
_ANSWER: Final = 5.0  # seconds for Redis to answer a batch; a busy loop may be late to read it
_LINGER: Final = 0.1  # seconds that what is put for later may wait while there is much to write
_LATER_AT_ONCE: Final = 100  # records made in one turn of the loop, which has jobs to serve
_FIRST_PAUSE: Final = 0.1  # seconds; doubled with each attempt
_LAST_PAUSE: Final = 5.0  # seconds


class ResultsWriter:
    """Collects records while one batch is on its way; writes until Redis has them.

    Of the records of one job that wait for the next batch only the newest is written. That a job
    has started waits longer where there is much to write: most have ended before anyone could
    have seen them start, and cost one write, and one record to be made.
    """

    def __init__(self, client: Redis, loop: asyncio.AbstractEventLoop, *, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._script_hash = client.register_script(STORE).sha
        # Of its own: borrowing one for each batch and giving it back costs more than the batch.
        self._connection: Any = None
        self._loop = loop
        self._waiting: dict[bytes, _Slot] = {}
        self._later: dict[bytes, Callable[[], Entry | None]] = {}
        self._lingering: asyncio.TimerHandle | None = None  # while there is something in `_later`
        self._sent_at = 0.0
        self._flushing: asyncio.Task[None] | None = None

    def put(self, entry: Entry) -> None:
        """Have the record written soon. To be called on the loop."""
        self._slot(entry)

    def put_later(self, key: bytes, make: Callable[[], Entry | None]) -> None:
        """Have a record made and written, unless a newer one of its job comes first.

        On a worker with little to do that is at once. `make` may find that there is nothing to
        write any more. To be called on the loop.
        """
        self._later[key] = make
        if self._lingering is None:
            self._linger(0 if self._loop.time() - self._sent_at > _LINGER else _LINGER)

    async def write(self, entry: Entry) -> None:
        """Write the record, and wait until Redis has it, however long it is away.

        Raises UnstorableResultError if Redis refuses this very record.
        """
        written: asyncio.Future[None] = self._loop.create_future()
        self._slot(entry).waiters.append(written)
        await written

    async def close(self) -> None:
        """Drop the connection. What has not been written by now is not going to be."""
        self._later.clear()
        if self._lingering is not None:
            self._lingering.cancel()
        await self._drop_connection()
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
                if (entry := make()) is not None:
                    self.put(entry)
            except UnstorableResultError as error:
                logger.error("A record was not stored: %s", error)  # noqa: TRY400  no fault here
            except Exception:
                logger.exception("A record could not be made")

    def _slot(self, entry: Entry) -> "_Slot":
        self._later.pop(entry.key, None)
        slot = self._waiting.get(entry.key)
        if slot is None:
            slot = self._waiting[entry.key] = _Slot(entry)
        elif not slot.entry.final:
            slot.entry = entry
        if self._flushing is None:
            # In a context of its own, or it would belong to the job that happened to start it.
            self._flushing = self._loop.create_task(self._flush(), context=contextvars.Context())
        return slot

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._send(self._next_batch())
        finally:
            self._flushing = None

    def _next_batch(self) -> list["_Slot"]:
        batch: list[_Slot] = []
        size = 0
        for slot in self._waiting.values():
            size += len(slot.entry.record)
            if batch and (len(batch) == _MAX_BATCH or size > _MAX_BYTES):
                break
            batch.append(slot)
        for slot in batch:
            del self._waiting[slot.entry.key]
        return batch

    async def _send(self, batch: list["_Slot"]) -> None:
        self._sent_at = self._loop.time()
        keys = [slot.entry.key for slot in batch]
        args: list[Any] = []
        for slot in batch:
            args += (slot.entry.record, slot.entry.lifetime)
        for slot, outcome in zip(batch, await self._insist(keys, args), strict=True):
            slot.settle(outcome)

    async def _insist(self, keys: list[bytes], args: list[Any]) -> list[Any]:
        """Run the script until Redis has answered for every record."""
        pause = _FIRST_PAUSE
        while True:
            try:
                outcomes = await self._ask(keys, args)
                reason = next(filter(_is_passing, outcomes), None)
            except ResponseError as error:
                reason = answer_of(error)
                if not will_pass(reason):
                    return [reason] * len(keys)
            except (RedisError, OSError) as error:
                reason = str(error) or f"no answer within {self._timeout:g} s"
            if reason is None:
                if pause > _FIRST_PAUSE:
                    logger.warning("Redis is back: the results of %s jobs are stored", len(keys))
                return outcomes
            # Also after an answer: the address may lead to another server than this one by now.
            await self._drop_connection()
            if pause == _FIRST_PAUSE:
                logger.warning("Redis is away, %s results have to wait: %s", len(keys), reason)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    async def _ask(self, keys: list[bytes], args: list[Any]) -> list[Any]:
        """Run the script once."""
        if self._connection is None:
            connections: Any = self._client.connection_pool
            self._connection = await connections.get_connection()
            # One timer for the whole exchange, in place of redis-py's task for each half of it.
            self._connection.socket_timeout = None
        try:
            return await self._run("EVALSHA", self._script_hash, len(keys), *keys, *args)
        except NoScriptError:
            return await self._run("EVAL", STORE, len(keys), *keys, *args)

    async def _run(self, *command: Any) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout):
                await self._connection.send_command(*command)
                outcomes: list[Any] = await self._connection.read_response()
        except asyncio.CancelledError:
            await self._drop_connection()  # or the next command would read this one's answer
            raise
        return outcomes

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)


class _Slot:
    """A record that waits to be written, and who waits for it."""

    __slots__ = ("entry", "waiters")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.waiters: list[asyncio.Future[None]] = []

    def settle(self, outcome: Any) -> None:
        """Tell those who wait what Redis answered."""
        refused = None if isinstance(outcome, int) else UnstorableResultError(_text(outcome))
        if refused is not None and not self.waiters:
            logger.error("A record was not stored: %s", refused)
        for waiter in self.waiters:
            if waiter.done():  # cancelled
                continue
            if refused is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(refused)


def _is_passing(outcome: Any) -> bool:
    return not isinstance(outcome, int) and will_pass(_text(outcome))


def _text(outcome: Any) -> str:
    return outcome.decode(errors="replace") if isinstance(outcome, bytes) else str(outcome)


def get_writer(app: Quart) -> ResultsWriter:
    """The process's writer; made when it is first needed. To be called on the loop."""
    if _EXTENSION not in app.extensions:
        loop = get_loop(app)
        writer = ResultsWriter(connect(parts_of(app).settings), loop.loop, timeout=_ANSWER)
        loop.closers.append(writer.close)
        app.extensions[_EXTENSION] = writer
    found: ResultsWriter = app.extensions[_EXTENSION]
    return found
