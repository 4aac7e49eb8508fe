"""Has jobs accepted by Redis: what is enqueued while a batch is on its way goes with the next."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError, QueueFullError, ServiceError
from service.jobs.sending.message import UNCONDITIONAL, Accepted, BuiltMessage, Conditions
from service.redis.batcher import Batcher
from service.redis.deadline import SharedDeadline
from service.redis.keys import ResultKeys
from service.redis.script import Script, ScriptConnection
from service.redis.transient import wrote_nothing
from service.settings.limits import LimitExceededError

_SCRIPT: Final = Script.load("service.jobs.sending", "enqueue")
_CONNECTIONS: Final = 2  # while Redis works on a full batch, the next is made
_MAX_JOBS: Final = 32  # in one batch, which keeps Redis from everything else for about 0.3 ms
_MAX_BYTES: Final = 1_000_000  # of messages in one batch
_STOPPING: Final = "the server is stopping"


@dataclass(slots=True, eq=False)
class _PendingSend:
    """Jobs that are to be accepted together, and the caller that waits for it."""

    messages: Sequence[BuiltMessage]
    conditions: Conditions
    done: asyncio.Future[list[Accepted]]
    count: int
    size: int
    sent: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether the caller still waits: else its time is over, or it is gone."""
        return not self.done.done()

    def finish(self, outcome: list[Accepted] | ServiceError) -> None:
        """Give the caller its jobs, or the error to raise."""
        if self.done.done():
            return
        if isinstance(outcome, ServiceError):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class BatchWriter:
    """Has jobs accepted by Redis, each within the timeout."""

    def __init__(
        self, client: Redis, keys: ResultKeys, *, timeout: float, replicas: int = 0
    ) -> None:
        """`replicas` is how many replicas of Redis must have a job before it is accepted."""
        self.keys = keys
        self.timeout = timeout
        self._deadline = SharedDeadline(timeout)
        self.paused_lists = ""  # the broker's hash of them, where its Redis is this one
        self._idle = [
            ScriptConnection(client, timeout=timeout, replicas=replicas)
            for _ in range(_CONNECTIONS)
        ]
        self._batcher: Batcher[_PendingSend] = Batcher(
            self._send, max_count=_MAX_JOBS, max_bytes=_MAX_BYTES, parallel=_CONNECTIONS
        )

    async def write(
        self, messages: Sequence[BuiltMessage], conditions: Conditions = UNCONDITIONAL
    ) -> list[Accepted]:
        """Have each job accepted, if the conditions hold for it.

        Raises QueueFullError, LimitExceededError, and BrokerUnavailableError, which knows whether
        jobs may have been accepted.
        """
        done = asyncio.get_running_loop().create_future()
        size = sum([len(message.message) for message in messages])
        pending = _PendingSend(messages, conditions, done, len(messages), size)
        self._batcher.add(pending)
        self._deadline.add(done, partial(self._timeout_of, pending))
        return await pending.done

    def idempotency_key(self, task: str | None, conditions: Conditions) -> str:
        """The key in Redis that conditions for a job of the task name; empty for none."""
        key = conditions.idempotency_key
        return self.keys.idempotency(task or "", key, conditions.owner) if key else ""

    async def aclose(self) -> None:
        """Close the connections. No caller is left waiting."""
        _fail(await self._batcher.close(), _STOPPING, maybe_accepted=False)
        self._deadline.clear()
        for connection in self._idle:
            await connection.disconnect()

    def _timeout_of(self, pending: _PendingSend) -> BrokerUnavailableError:
        reason = f"no answer within {self.timeout:g} s"
        return BrokerUnavailableError(reason, maybe_accepted=pending.sent)

    async def _send(self, batch: list[_PendingSend]) -> None:
        def on_send() -> None:
            for pending in batch:
                pending.sent = True

        connection = self._idle.pop()
        arguments: list[Any] = [self.keys.open_ttl]
        for pending in batch:
            for message in pending.messages:
                arguments += self.arguments(message, pending.conditions)
        keys = arguments[1:2] if arguments[2] else ()  # a command for workers has no record
        try:
            answers = iter(await connection.run(_SCRIPT, keys, arguments, on_send))
            for pending in batch:
                pending.finish(_outcome(pending, [next(answers) for _ in pending.messages]))
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            reason = str(error) or f"no answer within {self.timeout:g} s"
            _fail(batch, reason, maybe_accepted=batch[0].sent and not wrote_nothing(error))
        except BaseException:  # no caller may be left waiting
            _fail(batch, _STOPPING, maybe_accepted=True)
            raise
        finally:
            self._idle.append(connection)

    def arguments(self, message: BuiltMessage, conditions: Conditions = UNCONDITIONAL) -> list[Any]:
        """What enqueue.lua takes of one job."""
        key = self.keys.record(message.job_id)
        arguments = [key, message.record, message.message, len(message.destinations)]
        for destination in message.destinations:
            arguments += (destination.command, destination.key)
        if conditions is UNCONDITIONAL:
            arguments.append("")
            return arguments
        lists = [key for destination in message.destinations for key in destination.lists]
        idempotency_key = self.idempotency_key(message.task, conditions)
        value = f"{message.job_id} {conditions.fingerprint}"
        arguments += (conditions.limit, conditions.max_bytes, conditions.max_held)
        arguments += (idempotency_key, value, len(lists), *lists, self.paused_lists)
        arguments += conditions.share or ("",)
        return arguments


def _outcome(pending: _PendingSend, answers: list[list[bytes]]) -> list[Accepted] | ServiceError:
    """What enqueue.lua's answers mean for the caller."""
    refused = [reason.decode() for verdict, reason in answers if verdict == b"refused"]
    if refused:
        maybe_accepted = len(refused) < len(answers)
        return BrokerUnavailableError(refused[0], maybe_accepted=maybe_accepted)
    first, reason = answers[0][0], answers[0][1].decode()
    if first == b"full":
        conditions = pending.conditions
        limits = {
            "waiting jobs": conditions.limit,
            "waiting bytes": conditions.max_bytes,
            "bytes of results": conditions.max_held,
        }
        return QueueFullError(pending.messages[0].task or "", limits[reason], reason)
    if first == b"limited":
        name, _, seconds = reason.partition(" ")
        return LimitExceededError(name, float(seconds))
    accepted = []
    for message, (verdict, value) in zip(pending.messages, answers, strict=True):
        job_id, fingerprint = message.job_id, pending.conditions.fingerprint
        if verdict == b"earlier":
            job_id, _, fingerprint = value.decode().partition(" ")
        is_new = verdict == b"new"
        debt = float(value) if is_new and value else None
        fingerprint = "" if is_new else fingerprint
        accepted.append(Accepted(job_id, is_new, fingerprint, debt, message.queue))
    return accepted


def _fail(batch: list[_PendingSend], reason: str, *, maybe_accepted: bool) -> None:
    for pending in batch:
        pending.finish(BrokerUnavailableError(reason, maybe_accepted=maybe_accepted))
