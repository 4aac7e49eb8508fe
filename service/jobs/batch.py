"""Writes jobs to Redis: what is enqueued while one batch is on its way goes with the next."""

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError

from service.errors import BrokerUnavailableError
from service.jobs.envelope import Envelope

_SCRIPT: Final = (files("service.jobs") / "enqueue.lua").read_text()
_SHA: Final = hashlib.sha1(_SCRIPT.encode()).hexdigest()  # noqa: S324  Redis names scripts by it
_MAX_JOBS: Final = 128  # in one script, which keeps Redis from everything else for about 1 ms
_MAX_TEXT: Final = 1_000_000  # characters of messages in one script


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a job is to be accepted.

    `once` is an idempotency key and `fingerprint` what it stands for; `limit` is how many jobs
    may wait in `lists` (0: any number).
    """

    once: str = ""
    fingerprint: str = ""
    limit: int = 0
    lists: Sequence[str] = ()


FREELY: Final = Terms()


@dataclass(slots=True, eq=False)
class _Entry:
    """Jobs that are to be accepted together, and the one who waits for that."""

    arguments: list[Any]
    jobs: int
    size: int
    done: asyncio.Future[list[str]]
    sent: bool = field(default=False)


class BatchWriter:
    """Accepts jobs on a connection of its own, one batch at a time, each within the timeout."""

    def __init__(self, client: Redis, *, timeout: float, lifetime: int, key_prefix: str) -> None:
        self._client = client
        self._connection: Any = None
        self._timeout = timeout
        self._lifetime = lifetime
        self.key_prefix = key_prefix
        self._waiting: deque[_Entry] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def write(self, envelopes: Sequence[Envelope], terms: Terms = FREELY) -> list[str]:
        """Have each job accepted; for each, what enqueue.lua answers.

        Raises BrokerUnavailableError, which knows whether the jobs may have been accepted.
        """
        arguments: list[Any] = []
        size = 0
        for envelope in envelopes:
            self._add(arguments, envelope, terms)
            size += len(envelope.message)
        loop = asyncio.get_running_loop()
        entry = _Entry(arguments, len(envelopes), size, loop.create_future())
        self._waiting.append(entry)
        if self._writing is None:
            self._writing = loop.create_task(self._write_all())
        timer = loop.call_later(self._timeout, self._give_up, entry)
        try:
            return await entry.done
        finally:
            timer.cancel()
            if not entry.sent and entry in self._waiting:  # the caller went away before
                self._waiting.remove(entry)

    async def aclose(self) -> None:
        """End the connection."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        await self._disconnect()

    def _add(self, arguments: list[Any], envelope: Envelope, terms: Terms) -> None:
        once = terms.once
        arguments += (
            self.key_prefix + envelope.job_id,
            envelope.record,
            envelope.message,
            once,
            f"{envelope.job_id} {terms.fingerprint}" if once else "",
            terms.limit,
            len(terms.lists),
            *terms.lists,
            len(envelope.destinations),
        )
        for destination in envelope.destinations:
            arguments += destination

    def _give_up(self, entry: _Entry) -> None:
        if not entry.done.done():
            error = BrokerUnavailableError(
                f"no answer within {self._timeout:g} s", maybe_accepted=entry.sent
            )
            entry.done.set_exception(error)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                if batch:
                    await self._write_batch(batch)
        finally:
            self._writing = None

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        jobs = size = 0
        while self._waiting and (not batch or (jobs < _MAX_JOBS and size < _MAX_TEXT)):
            entry = self._waiting.popleft()
            if not entry.done.done():  # else it was given up
                batch.append(entry)
                jobs += entry.jobs
                size += entry.size
        return batch

    async def _write_batch(self, batch: list[_Entry]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect()
                for entry in batch:
                    entry.sent = True
                answers = iter(await self._run([a for entry in batch for a in entry.arguments]))
        except (BusyLoadingError, ResponseError) as error:
            _fail(batch, str(error), maybe_accepted=False)  # Redis said no, before it wrote
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            await self._disconnect()
            _fail(batch, str(error) or f"no answer within {self._timeout:g} s")
        except BaseException:
            await self._disconnect()
            _fail(batch, "the server is stopping")
            raise
        else:
            for entry in batch:
                told = [next(answers).decode() for _ in range(entry.jobs)]
                if not entry.done.done():
                    entry.done.set_result(told)

    async def _run(self, arguments: list[Any]) -> list[bytes]:
        try:
            return await self._call("EVALSHA", _SHA, 0, self._lifetime, *arguments)
        except NoScriptError:  # a Redis that was started anew
            return await self._call("EVAL", _SCRIPT, 0, self._lifetime, *arguments)

    async def _call(self, *command: Any) -> list[bytes]:
        connection = self._connection
        await connection.send_packed_command(connection.pack_command(*command), check_health=False)
        answer: list[bytes] = await connection.read_response()
        return answer

    async def _connect(self) -> None:
        if self._connection is None:
            pool = self._client.connection_pool
            self._connection = pool.connection_class(**pool.connection_kwargs)
        if self._connection.is_connected and await self._connection.can_read():
            await self._connection.disconnect()  # the server has closed it since the last batch
        await self._connection.connect()

    async def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is lost either way
                await self._connection.disconnect(nowait=True)


def _fail(batch: list[_Entry], reason: str, *, maybe_accepted: bool = True) -> None:
    for entry in batch:
        if not entry.done.done():
            entry.done.set_exception(
                BrokerUnavailableError(reason, maybe_accepted=maybe_accepted and entry.sent)
            )
