"""The jobs that a job has to do with, in the order in which they run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from quart import current_app

from service.access.access import sight
from service.access.policy import Action
from service.broker.finding.message import FoundMessage
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.job.attempts import text_in
from service.errors import UnknownJobError
from service.parts import Parts
from service.redis.bounded import bounded
from service.results.decoding import record_fields
from service.results.store import StoredRecord

WAITS_FOR: Final = "Waits for"
THIS_JOB: Final = "This job"

_MOST: Final = 50  # related jobs of one kind


@dataclass(frozen=True, slots=True)
class Relative:
    """A job that has to do with this one; all but its id is empty where nothing is known."""

    id: str
    task: str = ""
    state: str = ""
    parent: str = ""


async def relatives_of(
    parts: Parts, record: StoredRecord, fields: Mapping[str, Any], found: FoundMessage | None
) -> dict[str, list[Relative]]:
    """This job and those around it, by what they are to it; nothing where it is alone.

    Raises ResultsUnavailableError.
    """
    headers = found.headers if found else {}
    root = text_in(fields.get("root_id")) or text_in(headers.get("root_id"))
    parent = text_in(fields.get("parent_id")) or text_in(headers.get("parent_id"))
    parent = "" if parent == record.job_id else parent  # as that of a retry is
    group = text_in(fields.get("group_id")) or text_in(headers.get("group"))
    waits_for = fields.get("waits_for") if not record.result.ready and found is None else ()
    members = await _group_of(parts, group, parent)
    is_body = parent in members  # the body of a chord has the group of its header, and came of it
    kinds: dict[str, list[str]] = {
        "Began with": [root] if root not in {"", record.job_id, parent} else [],
        "Waited for": [each for each in members if each != record.job_id] if is_body else [],
        "Sent by": [parent] if parent and not is_body else [],
        WAITS_FOR: [text_in(each) for each in waits_for or () if text_in(each)],
        THIS_JOB: [record.job_id],
        "In its group": [] if is_body else [each for each in members if each != record.job_id],
        "Then": [job_id for _, job_id in found.chain if job_id] if found else [],
        "Has sent": [
            each for each in dict.fromkeys(_ids(fields.get("children"))) if each != record.job_id
        ],
    }
    ids = [*dict.fromkeys(job_id for each in kinds.values() for job_id in each[:_MOST])]
    known = await _known_of(parts, ids)
    bodies = [
        each for each in kinds["In its group"] if each in known and known[each].parent in members
    ]
    kinds["In its group"] = [each for each in kinds["In its group"] if each not in bodies]
    kinds["Then"] = [*dict.fromkeys([*kinds["Then"], *bodies])]
    found_kinds = {
        name: [known.get(job_id, Relative(job_id)) for job_id in each[:_MOST]]
        for name, each in kinds.items()
        if each
    }
    return found_kinds if len(found_kinds) > 1 else {}


async def _group_of(parts: Parts, group: str, parent: str) -> list[str]:
    """The recent jobs of the group, and those that its sender's record has."""
    if not group:
        return []
    ids = dashboard_of(current_app).reader.jobs.members_of(group)
    if parent:
        async with bounded(parts.settings.redis_timeout):
            sender = await parts.redis.get(parts.keys.record(parent))
        with suppress(ValueError):
            ids += _members_in(record_fields(sender or b"{}").get("children"), group)
    return [*dict.fromkeys(ids)]


def _members_in(children: Any, group: str) -> Iterator[str]:
    """The jobs of a group in what Celery stores of results."""
    match children:
        case [[str() as group_id, _], list() as members]:
            for each in members:
                yield from _ids(each) if group_id == group else _members_in(each, group)
        case list():
            for each in children:
                yield from _members_in(each, group)


async def _known_of(parts: Parts, ids: Sequence[str]) -> dict[str, Relative]:
    """Of the jobs with these ids, those that the caller may see."""
    if not ids:
        return {}
    async with bounded(parts.settings.redis_timeout):
        stored: Any = await parts.redis.mget([parts.keys.record(job_id) for job_id in ids])
    may = await sight()
    found: dict[str, Relative] = {}
    for job_id, data in zip(ids, stored, strict=True):
        with suppress(UnknownJobError):
            if data is not None and may(Action.SEE, record := StoredRecord(job_id, data)):
                result, parent = record.result, text_in(record_fields(data).get("parent_id"))
                found[job_id] = Relative(job_id, result.task or "", result.state.value, parent)
    return found


def _ids(children: Any) -> Iterator[str]:
    """The jobs in what Celery stores of results: `[[id, parent], members]`, or a list of such."""
    if not isinstance(children, list):
        return
    match children:
        case [[str() as job_id, _], None]:
            yield job_id
        case [[str(), _], list() as members]:
            for each in members:
                yield from _ids(each)
        case _:
            for each in children:
                yield from _ids(each)
