"""Gathers jobs: what is enqueued while a batch is on its way to Redis goes with the next."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis

from service.errors import BrokerUnavailableError
from service.jobs.sending.message import Envelope
from service.jobs.sending.script_connection import Lane

_LANES: Final = 2  # while Redis works on a full batch, the next is made
_MAX_JOBS: Final = 32  # in one batch, which keeps Redis from everything else for about 0.3 ms
_MAX_TEXT: Final = 1_000_000  # characters of messages in one batch


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
    """Has jobs accepted by Redis, each within the timeout."""

    def __init__(self, client: Redis, *, timeout: float, lifetime: int, key_prefix: str) -> None:
        self.key_prefix = key_prefix
        self._timeout = timeout
        self._waiting: deque[_Entry] = deque()
        self._idle = [Lane(client, timeout=timeout, lifetime=lifetime) for _ in range(_LANES)]
        self._lanes = tuple(self._idle)
        self._writing: set[asyncio.Task[None]] = set()

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
        if len(self._idle) == _LANES or (self._idle and len(self._waiting) >= _MAX_JOBS):
            task = loop.create_task(self._write_all(self._idle.pop()))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        timer = loop.call_later(self._timeout, self._give_up, entry)
        try:
            return await entry.done
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        """End the connections."""
        for task in self._writing:
            task.cancel()
        if self._writing:
            await asyncio.wait(self._writing)
        for lane in self._lanes:
            await lane.disconnect()

    def _add(self, arguments: list[Any], envelope: Envelope, terms: Terms) -> None:
        arguments += (
            self.key_prefix + envelope.job_id,
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

    def _give_up(self, entry: _Entry) -> None:
        if not entry.done.done():
            reason = f"no answer within {self._timeout:g} s"
            entry.done.set_exception(BrokerUnavailableError(reason, maybe_accepted=entry.sent))

    async def _write_all(self, lane: Lane) -> None:
        try:
            while batch := self._next_batch():
                await _write(lane, batch)
        finally:
            self._idle.append(lane)

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        jobs = size = 0
        while self._waiting and jobs < _MAX_JOBS and size < _MAX_TEXT:
            entry = self._waiting.popleft()
            if not entry.done.done():  # else it was given up, or who waited is gone
                batch.append(entry)
                jobs += entry.jobs
                size += entry.size
        return batch


def _tell(entry: _Entry, told: list[Any]) -> None:
    refused = [answer[0].decode() for answer in told if isinstance(answer, list)]
    if refused:
        accepted = len(refused) < len(told)
        entry.done.set_exception(BrokerUnavailableError(refused[0], maybe_accepted=accepted))
    else:
        entry.done.set_result([answer.decode() for answer in told])


async def _write(lane: Lane, batch: list[_Entry]) -> None:
    def on_send() -> None:
        for entry in batch:
            entry.sent = True

    error = BrokerUnavailableError("the server is stopping", maybe_accepted=True)
    try:
        arguments = [argument for entry in batch for argument in entry.arguments]
        answers = iter(await lane.call(arguments, on_send))
        for entry in batch:
            told = [next(answers) for _ in range(entry.jobs)]
            if not entry.done.done():
                _tell(entry, told)
    except BrokerUnavailableError as raised:
        error = raised
    finally:
        for entry in batch:  # none may be left waiting
            if not entry.done.done():
                entry.done.set_exception(
                    BrokerUnavailableError(error.reason, maybe_accepted=error.maybe_accepted)
                )
