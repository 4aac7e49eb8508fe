"""Has jobs accepted by Redis: what is enqueued while a batch is on its way goes with the next."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError
from service.jobs.sending.message import Envelope
from service.redis.batcher import Batcher
from service.redis.keys import ResultKeys
from service.redis.script import Script
from service.redis.script_connection import ScriptConnection
from service.redis.transient import wrote_nothing

_SCRIPT: Final = Script.load("service.jobs.sending", "enqueue")
_CONNECTIONS: Final = 2  # while Redis works on a full batch, the next is made
_MAX_JOBS: Final = 32  # in one batch, which keeps Redis from everything else for about 0.3 ms
_MAX_BYTES: Final = 1_000_000  # of messages in one batch


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
class _PendingSend:
    """Jobs that are to be accepted together, and the caller that waits for it."""

    arguments: list[Any]
    count: int
    size: int
    done: asyncio.Future[list[str]]
    sent: bool = field(default=False)

    @property
    def is_wanted(self) -> bool:
        """Whether the caller still waits: else its time is over, or it is gone."""
        return not self.done.done()

    def answer(self, answers: list[Any]) -> None:
        """Give the caller what Redis said of its jobs."""
        if self.done.done():
            return
        refused = [answer[0].decode() for answer in answers if isinstance(answer, list)]
        if refused:
            self.fail(refused[0], maybe_accepted=len(refused) < len(answers))
        else:
            self.done.set_result([answer.decode() for answer in answers])

    def fail(self, reason: str, *, maybe_accepted: bool) -> None:
        """Tell the caller that there is no answer."""
        if not self.done.done():
            error = BrokerUnavailableError(reason, maybe_accepted=maybe_accepted)
            self.done.set_exception(error)


class BatchWriter:
    """Has jobs accepted by Redis, each within the timeout."""

    def __init__(self, client: Redis, *, timeout: float, ttl: int, keys: ResultKeys) -> None:
        self.keys = keys
        self._timeout = timeout
        self._ttl = ttl
        self._idle = [ScriptConnection(client, timeout=timeout) for _ in range(_CONNECTIONS)]
        self._connections = tuple(self._idle)
        self._batcher: Batcher[_PendingSend] = Batcher(
            self._send, max_count=_MAX_JOBS, max_bytes=_MAX_BYTES, parallel=_CONNECTIONS
        )

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
        pending = _PendingSend(arguments, len(envelopes), size, loop.create_future())
        self._batcher.add(pending)
        timer = loop.call_later(self._timeout, self._give_up, pending)
        try:
            return await pending.done
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        """End the connections."""
        await self._batcher.close()
        for connection in self._connections:
            await connection.disconnect()

    def _add(self, arguments: list[Any], envelope: Envelope, terms: Terms) -> None:
        arguments += (
            self.keys.record(envelope.job_id),
            envelope.record,
            envelope.message,
            len(envelope.destinations),
        )
        for destination in envelope.destinations:
            arguments += destination
        if terms is FREELY:
            arguments.append("")
        else:
            value = f"{envelope.job_id} {terms.fingerprint}"
            arguments += (terms.limit, terms.once, value, len(terms.lists), *terms.lists)

    def _give_up(self, pending: _PendingSend) -> None:
        pending.fail(f"no answer within {self._timeout:g} s", maybe_accepted=pending.sent)

    async def _send(self, batch: list[_PendingSend]) -> None:
        def on_send() -> None:
            for pending in batch:
                pending.sent = True

        connection = self._idle.pop()
        reason, maybe_accepted = "the server is stopping", True
        arguments = [argument for pending in batch for argument in pending.arguments]
        try:
            answers = iter(await connection.run(_SCRIPT, (), (self._ttl, *arguments), on_send))
            for pending in batch:
                pending.answer([next(answers) for _ in range(pending.count)])
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            reason = str(error) or f"no answer within {self._timeout:g} s"
            maybe_accepted = batch[0].sent and not wrote_nothing(error)
        finally:
            self._idle.append(connection)
            for pending in batch:  # none may be left waiting
                pending.fail(reason, maybe_accepted=maybe_accepted)
