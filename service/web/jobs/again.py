"""Runs a job that has ended once more: as a new job, with its arguments, for its owner."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from service.jobs.sending.message import Accepted, Conditions
from service.parts import Parts
from service.redis.bounded import bounded
from service.results.store import StoredRecord

_KEY: Final = "run-again:"  # begins the idempotency key of the new job


def can_run_again(parts: Parts, record: StoredRecord) -> bool:
    """Whether the job has ended, all its arguments are known, and its task is one of this app."""
    result = record.result
    handle = parts.tasks.get(result.task or "")
    if handle is None or handle.arguments.takes_any_number:  # the record has only those with a name
        return False
    return result.ready and result.arguments is not None


async def run_again(parts: Parts, record: StoredRecord) -> Accepted:
    """Enqueue the job's call once more; what was done so before for the same end is not done twice.

    The new job stands alone: the rest of a canvas does not follow it. Raises InvalidArgumentsError,
    UnknownTaskError, QueueFullError, IdempotencyConflictError and BrokerUnavailableError.
    """
    task, arguments = str(record.result.task), record.result.arguments or {}
    args, kwargs = parts.tasks[task].arguments.from_json(arguments)
    limits = parts.settings
    conditions = Conditions(
        idempotency_key=_key(record),
        owner=record.owner,
        fingerprint=hashlib.sha256(_key(record).encode()).hexdigest(),
        limit=limits.max_queue,
        max_bytes=limits.max_queue_bytes,
        max_held=limits.max_held_bytes,
    )
    return await parts.enqueuer.enqueue_if(task, args, kwargs, conditions)


async def ran_again(parts: Parts, records: Sequence[StoredRecord]) -> set[str]:
    """The ids of those jobs that were run again, as far as Redis remembers.

    Raises ResultsUnavailableError.
    """
    keys = [
        parts.keys.idempotency(str(record.result.task), _key(record), record.owner)
        for record in records
    ]
    async with bounded(parts.settings.redis_timeout):
        known: Any = await parts.redis.mget(keys)
    return {record.job_id for record, job in zip(records, known, strict=True) if job is not None}


def _key(record: StoredRecord) -> str:
    ended = record.result.finished_at
    return f"{_KEY}{record.job_id}:{ended.isoformat() if ended else ''}"
