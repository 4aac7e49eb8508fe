"""Reads what workers and jobs have stored themselves; pure."""

import time
from collections.abc import Iterator, Mapping

import msgspec

from service.dashboard.events.lanes import Worker
from service.results.decoding import decode
from service.results.model import State
from service.results.short import line_of
from service.signals import JobEvent, WorkerStatus


def workers_in(
    now: float, statuses: Mapping[bytes, bytes], seen: Mapping[bytes, float]
) -> Iterator[Worker]:
    """The workers by name, of what they have reported."""
    for name, stored in sorted(statuses.items()):
        try:
            status = msgspec.json.decode(stored, type=WorkerStatus)
        except msgspec.MsgspecError:
            continue  # that of another version of the service
        age = max(0.0, now - seen.get(name, 0.0))
        yield Worker(name.decode(errors="replace"), age, status)


def event_of_record(job: JobEvent, record: bytes) -> JobEvent | None:
    """The event that a job's own record tells of; None if it is not a new one."""
    try:
        result = decode(job.id, record)
    except ValueError:
        return None  # `decode` says of a record of somebody else's that it is none
    if result.state == job.state or not (result.ready or job.state == State.QUEUED):
        return None
    return msgspec.structs.replace(
        job,
        state=result.state.value,
        task=result.task or job.task,
        at=time.time(),
        queued_at=result.queued_at.timestamp() if result.queued_at else job.queued_at,
        started_at=result.started_at.timestamp() if result.started_at else job.started_at,
        finished_at=result.finished_at and result.finished_at.timestamp(),
        error=line_of(result.error.type, result.error.message) if result.error else job.error,
    )
