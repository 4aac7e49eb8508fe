"""What an operator sees of a job besides: how it ended, where it is, and what it belongs to."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from quart import current_app

from service.access.access import sight
from service.access.policy import Action
from service.broker.finding.message import FoundMessage, find_message
from service.broker.pauses import Pause
from service.dashboard.events.snapshot import Snapshot
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.job.attempts import AttemptView, attempts_of, text_in, trace_in
from service.dashboard.pages.job.family import WAITS_FOR, Relative, relatives_of
from service.dashboard.pages.job.frames import Trace
from service.dashboard.pages.job.log_lines import LogView, newest_lines
from service.parts import Parts, parts_of
from service.redis.bounded import bounded
from service.redis.keys import broker_keys
from service.results.decoding import moment_of, record_fields
from service.results.marks import TAGS, tags_in
from service.results.model import TERMINAL, State
from service.results.store import StoredRecord

_MAX_TEXT: Final = 4_000  # characters of a header
# Headers that Celery and we put into each message; the page tells them otherwise, if at all.
_OF_CELERY: Final = frozenset(
    {
        *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries"),
        *("timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "queued_at"),
        *("ignore_result", "replaced_task_nesting", "owner", "redelivered", "stamps"),
        *("stamped_headers", TAGS),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails:
    """The details of one job. `relatives` are by what they are to it, `facts` are texts by name.

    `filters` are the values by which the dashboard lists jobs that have them in common with it.
    """

    filters: Mapping[str, Sequence[str]]
    facts: Mapping[str, str]
    moments: Mapping[str, datetime | float]
    relatives: Mapping[str, Sequence[Relative]]
    trace: Trace | None
    attempts: Sequence[AttemptView]
    headers: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    waits_for: str = ""  # the jobs after whose end it is sent, in words
    may_cancel: bool = False
    shows_log: bool = False
    shows_stack: bool = False
    may_run_again: bool = False
    may_run_now: bool = False
    record: StoredRecord

    async def log(self) -> LogView:
        """The newest lines of the present attempt, or of the last one; the page asks for them."""
        return await newest_lines(parts_of(current_app), self.record.result)


async def find_details(record: StoredRecord) -> JobDetails:
    """Find out the details of a job that the request's caller may see.

    Raises ResultsUnavailableError.
    """
    parts, may = parts_of(current_app), await sight()
    fields, result = record_fields(record.data), record.result
    found = None if result.ready else await find(parts, record)
    now = await dashboard_of(current_app).reader.refresh()
    is_due = result.state in {State.QUEUED, State.RETRY} and found is not None
    waits = is_due and found is not None and found.held_since is None
    shows_output = may(Action.SEE_OUTPUT, record)
    relatives = await relatives_of(parts, record, fields, found)
    waits_for = _waits_for(relatives.get(WAITS_FOR, ()))
    return JobDetails(
        filters=dict(_common(fields, found)),
        facts=dict(_facts(record, fields, found)),
        moments=dict(_moments(found)),
        relatives=relatives,
        waits_for=waits_for,
        trace=trace_in(fields.get("traceback")) if shows_output else None,
        attempts=await attempts_of(parts, record, fields) if shows_output else (),
        headers=_headers(found),
        notes=[*_notes(record, fields, found, now, waits_for=waits_for)],
        shows_stack=shows_output and result.state in {State.STARTED, State.PROGRESS},
        shows_log=shows_output and parts.settings.job_log == "on",
        record=record,
        may_cancel=not result.ready and may(Action.CANCEL, record),
        may_run_again=result.ready and result.task in parts.tasks and may(Action.RUN_AGAIN, record),
        may_run_now=waits and found is not None and found.due_at is not None,
    )


async def find(parts: Parts, record: StoredRecord) -> FoundMessage | None:
    """The job's message, where the broker is Redis. Raises ResultsUnavailableError.

    The record names a queue that the dashboard may not know: one without workers.
    """
    own = text_in(record_fields(record.data).get("queue"))
    names = {*dashboard_of(current_app).reader.queue_names(), *filter(None, [own])}
    async with bounded(parts.settings.redis_timeout):
        keys = broker_keys(parts.celery.get().conf)
        return await find_message(parts.broker_redis, keys, sorted(names), record.job_id)


def _common(
    fields: Mapping[str, Any], found: FoundMessage | None
) -> Iterator[tuple[str, Sequence[str]]]:
    queue = (found.queue if found else "") or text_in(fields.get("queue"))
    for name, values in (
        ("worker", [text_in(fields.get("worker"))]),
        ("queue", [queue]),
        ("tag", tags_in(fields.get(TAGS))),
    ):
        if any(values):
            yield name, values


def _facts(
    record: StoredRecord, fields: Mapping[str, Any], found: FoundMessage | None
) -> Iterator[tuple[str, str]]:
    for name, value in (
        ("Owner", record.owner or ""),
        ("Sent from", text_in(found.headers.get("origin")) if found else ""),
        (
            "Group",
            text_in(fields.get("group_id"))
            or (text_in(found.headers.get("group")) if found else ""),
        ),
    ):
        if value:
            yield name, value
    by = record.result.cancelled_by
    if by is not None:
        yield "Cancelled by", by or "somebody who was not signed in"
    if found is None:
        return
    if found.before is not None:
        yield "Before it in its queue", f"{found.before:,}"
    if found.deliveries:
        yield "Deliveries", f"{found.deliveries:,}"
    if found.held_since is not None:
        yield "Lease renewed", f"{max(0, round(time.time() - found.held_since))} s ago"
    limits = found.headers.get("timelimit")
    if isinstance(limits, list) and any(limits):
        hard, soft = [*limits, None, None][:2]
        yield (
            "Time limits",
            ", ".join(
                f"{each} s {name}" for each, name in ((soft, "soft"), (hard, "hard")) if each
            ),
        )


def _moments(found: FoundMessage | None) -> Iterator[tuple[str, datetime | float]]:
    if found is None:
        return
    if found.due_at is not None:
        yield "Due", found.due_at
    if (expires := moment_of(found.headers.get("expires"))) is not None:
        yield "Expires", expires


def _headers(found: FoundMessage | None) -> dict[str, str]:
    """The headers that somebody has added, and stamps."""
    if found is None:
        return {}
    own = {name: value for name, value in found.headers.items() if name not in _OF_CELERY}
    stamps = found.headers.get("stamps")
    own |= stamps if isinstance(stamps, dict) else {}
    return {
        str(name): (value if isinstance(value, str) else json.dumps(value))[:_MAX_TEXT]
        for name, value in own.items()
        if value is not None
    }


def _notes(
    record: StoredRecord,
    fields: Mapping[str, Any],
    found: FoundMessage | None,
    now: Snapshot,
    *,
    waits_for: str,
) -> Iterator[str]:
    """Why the job does not run, where that may need somebody to act."""
    state = record.result.state
    if state not in {State.QUEUED, State.RETRY}:
        return
    if (paused := now.paused_tasks.get(record.result.task or "")) is not None:
        yield _paused("Its task", paused.pause)
    queue = (found.queue if found else "") or text_in(fields.get("queue"))
    for pause in (each.pause for each in now.queues if each.name == queue and each.pause):
        yield _paused("Its queue", pause)
    if waits_for:
        yield "It is sent when the jobs that it waits for have ended."
        return
    consumed = {name for worker in now.alive for name in worker.status.queues}
    if now.problem or not queue or queue in consumed:
        return
    if (found and found.queue) or not _may_be_taken(queue, consumed):
        yield f"No running worker takes jobs from the queue {queue}."


def _may_be_taken(routing_key: str, consumed: Iterable[str]) -> bool:
    """Whether one of these queues may get what has this key, which a record may have as its queue.

    Which topics a queue takes is not known here.
    """
    known: Mapping[str, Any] = parts_of(current_app).celery.get().amqp.queues
    queues = [known[name] for name in consumed if name in known]
    is_direct = (queue.exchange is None or queue.exchange.type == "direct" for queue in queues)
    return not all(is_direct) or any(queue.routing_key == routing_key for queue in queues)


def _waits_for(before: Sequence[Relative]) -> str:
    """Those of the jobs before a later job that have not ended, in words; empty if all have."""
    tasks = [each.task for each in before if each.state not in TERMINAL]
    if len(tasks) <= 1:
        return "".join(task or "another job" for task in tasks)
    return f"{tasks[0]} and others" if tasks[0] else "other jobs"


def _paused(what: str, pause: Pause) -> str:
    return f"{what} is paused by {pause.by}" + (f": {pause.why}" if pause.why else ".")
