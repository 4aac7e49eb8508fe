"""Marks the records of jobs whose messages are still to be published, and removes the marks."""

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError
from service.jobs.celery.capture import PublishCall
from service.jobs.celery.connections import COPY
from service.jobs.sending.message import BuiltMessage, queued_record
from service.jobs.sending.other_brokers.call_template import ReadyCall
from service.redis.batcher import Batcher
from service.redis.script import Script, ScriptConnection
from service.results.marks import IDEMPOTENCY

_CHANGE: Final = Script.load("service.jobs.sending.other_brokers", "change")
_MAX_CHANGES: Final = 64  # in one batch
_MAX_BYTES: Final = 1_000_000
UNSENT: Final = "unsent"  # mark: since when it is being published, in seconds since the epoch
_LONG_AGO: Final = 1.0  # seconds since the epoch
# In a record: no text in it can have quotes without a backslash.
_MARK: Final = re.compile(rf'"{UNSENT}": [\d.e+]+, ')


def new_record(call: PublishCall) -> BuiltMessage:
    """The record of a job that nobody can enqueue again, as its id is not known to anyone."""
    record = call.record if isinstance(call, ReadyCall) else record_of(call, None)
    return BuiltMessage(call.job_id, call.task, "", record, queue=call.queue)


def unsent_record(call: PublishCall, idempotency_key: str | None = None) -> BuiltMessage:
    """The marked record of a job that is published from now on; none for an event of Celery's."""
    record = record_of(call, idempotency_key, time.time()) if call.job_id else ""
    return BuiltMessage(call.job_id, call.task, "", record, queue=call.queue)


def record_of(
    call: PublishCall, idempotency_key: str | None, unsent_since: float | None = None
) -> str:
    """The record of the job that a call publishes, with its marks."""
    marks = {IDEMPOTENCY: idempotency_key or None, UNSENT: unsent_since}
    marks = {name: value for name, value in marks.items() if value is not None}
    return queued_record(call, marks=marks)


def sent_record(unsent: BuiltMessage) -> str:
    """The marked record without the mark."""
    return _MARK.sub("", unsent.record, count=1)


def doubtful_record(unsent: BuiltMessage) -> str:
    """The marked record of a job that may have been published, and is to be so again if asked."""
    return _MARK.sub(f'"{UNSENT}": {_LONG_AGO!r}, ', unsent.record, count=1)


def copy_of(call: PublishCall, moment: str | None = None) -> PublishCall:
    """The call once more, of a job that the broker may have; it was queued at this moment.

    An event of Celery's own stays as it is.
    """
    if not call.job_id:
        return call
    moment = moment or call.queued_at
    headers = {**call.options["headers"], "queued_at": moment, COPY: True}
    options = {**call.options, "headers": headers}
    return PublishCall(call.job_id, call.task, moment, call.body, options)


@dataclass(slots=True, eq=False)
class _Change:
    key: str
    before: str | bytes
    after: str
    done: asyncio.Future[bool]
    count: int = 1

    @property
    def size(self) -> int:
        return len(self.before) + len(self.after)

    @property
    def is_wanted(self) -> bool:
        return not self.done.done()


class RecordChanges:
    """Changes records, each only if it is what it was; many callers share a round trip."""

    def __init__(self, client: Redis, *, timeout: float) -> None:
        self._timeout = timeout
        self._connection = ScriptConnection(client, timeout=timeout)
        self._batcher: Batcher[_Change] = Batcher(
            self._send, max_count=_MAX_CHANGES, max_bytes=_MAX_BYTES
        )

    async def change(self, key: str, before: str | bytes, after: str) -> bool:
        """Store `after`, or nothing if it is empty, if `before` is stored; whether it was.

        Raises BrokerUnavailableError.
        """
        change = _Change(key, before, after, asyncio.get_running_loop().create_future())
        self._batcher.add(change)
        return await change.done

    async def aclose(self) -> None:
        """Close the connection."""
        await self._batcher.close()
        await self._connection.disconnect()

    def _fail(self, batch: list[_Change], reason: str) -> None:
        for change in batch:
            if not change.done.done():
                change.done.set_exception(BrokerUnavailableError(reason, maybe_accepted=True))

    async def _send(self, batch: list[_Change]) -> None:
        keys = [change.key for change in batch]
        arguments: list[Any] = []
        for change in batch:
            arguments += (change.before, change.after)
        try:
            answers = await self._connection.run(_CHANGE, keys, arguments)
            for change, answer in zip(batch, answers, strict=True):
                if not change.done.done():
                    change.done.set_result(bool(answer))
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            self._fail(batch, str(error) or f"no answer within {self._timeout:g} s")
        except BaseException:  # no caller may be left waiting
            self._fail(batch, "the server is stopping")
            raise
