"""What operators do to many jobs at once: retry, cancel and drop them, in chunks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from service.errors import ServiceError, UnavailableError
from service.parts import Parts
from service.redis.bounded import bounded
from service.redis.script import compare_and_set
from service.results.model import State
from service.results.store import StoredRecord
from service.signals import DROPPED, JobEvent, seconds_since_epoch
from service.web.jobs.again import can_run_again, ran_again, run_again

MOST: Final = 1_000  # jobs in one act

_CHUNK: Final = 50  # jobs


class Act(StrEnum):
    """What is done to each of many jobs."""

    CANCEL = "cancel"
    RETRY = "retry"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs to which an act can be done, of those that were asked for."""

    records: tuple[StoredRecord, ...]
    asked: int  # how many were looked at
    left: int  # how many were not, as there were more than MOST


async def plan(parts: Parts, act: Act, jobs: Sequence[JobEvent]) -> Plan:
    """Find out to which of the jobs the act can be done. Raises ResultsUnavailableError."""
    found: list[StoredRecord] = []
    asked = jobs[:MOST]
    for chunk in _in_chunks(asked):
        async with bounded(parts.settings.redis_timeout):
            keys = [parts.keys.record(job.id) for job in chunk]
            stored: Any = await parts.redis.mget(keys)
        pairs = zip(chunk, stored, strict=True)
        records = [StoredRecord(job.id, data) for job, data in pairs if data is not None]
        fits = [record for record in records if _fits(parts, act, record)]
        if act is Act.RETRY and fits:
            done = await ran_again(parts, fits)
            fits = [record for record in fits if record.job_id not in done]
        found += fits
    return Plan(tuple(found), len(asked), len(jobs) - len(asked))


async def carry_out(parts: Parts, act: Act, records: Iterable[StoredRecord], *, by: str) -> int:
    """Do the act to each job, some at once; to how many it was done. `by` is a caller's id.

    A job that has changed meanwhile is left alone. It ends early where Redis does not answer.
    """
    one = _ACTS[act]
    done = 0
    for chunk in _in_chunks(tuple(records)):
        answers = await asyncio.gather(
            *(one(parts, record, by) for record in chunk), return_exceptions=True
        )
        done += sum(answer is True for answer in answers)
        if any(isinstance(answer, UnavailableError) for answer in answers):
            break
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ServiceError):
                raise answer
    return done


def _fits(parts: Parts, act: Act, record: StoredRecord) -> bool:
    try:
        result = record.result
    except ServiceError:  # it is no record
        return False
    if act is Act.CANCEL:
        return not result.ready
    return result.state is State.FAILURE and (act is Act.DROP or can_run_again(parts, record))


async def _cancel_job(parts: Parts, record: StoredRecord, by: str) -> bool:
    await parts.enqueuer.cancel(record.job_id, by=by)
    return True


async def _retry_job(parts: Parts, record: StoredRecord, _: str) -> bool:
    return (await run_again(parts, record)).is_new


async def _drop_job(parts: Parts, record: StoredRecord, _: str) -> bool:
    async with bounded(parts.settings.redis_timeout, maybe_accepted=True):
        key = parts.keys.record(record.job_id)
        if not await compare_and_set(parts.redis, key, record.data, b""):
            return False
    at = seconds_since_epoch(record.result.finished_at and record.result.finished_at.isoformat())
    event = JobEvent(record.job_id, DROPPED, record.result.task or "", at or 0.0)
    parts.signals.job_changed.send(event)
    return True


_ACTS: Final[dict[Act, Callable[[Parts, StoredRecord, str], Awaitable[bool]]]] = {
    Act.CANCEL: _cancel_job,
    Act.RETRY: _retry_job,
    Act.DROP: _drop_job,
}


def _in_chunks(each: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (each[start : start + _CHUNK] for start in range(0, len(each), _CHUNK))
