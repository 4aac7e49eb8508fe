"""What a record says beside the state: the owner, the arguments, and marks of the job."""

import json
import re
from contextlib import suppress
from typing import Any, Final

from service.results.model import State

# Mark: the job's idempotency key in Redis. store.lua finds it behind the state, keeps it in each
# record of the job, and has that key live as long as the record.
IDEMPOTENCY: Final = "once"
# The job's owner, also a header of its message. It stands right behind the state, where store.lua
# finds it and keeps it in each later record. The task's name stands behind the marks: so whose job
# it is, and of which task, is read from the beginning of a record, however long the rest is.
OWNER: Final = "owner"
# Mark: the id of the caller who has cancelled the job, empty for an unknown one, null where no
# caller was named. A job that has begun and has this mark does not begin again.
CANCELLED_BY: Final = "cancelled_by"
NAME: Final = "name"
# A few words by which operators find a job: a header of its message, and a field of its record.
TAGS: Final = "tags"
MAX_TAGS: Final = 10
MAX_TAG_LENGTH: Final = 50  # characters
_TEXT: Final = rb'"(?:[^"\\]|\\.)*"'
_BEGINNING: Final = re.compile(
    rb'\{"status": "[A-Z]+", (?:"owner": (%b), )?'
    rb'(?:(?!"result": )"\w+": (?:%b|[\d.]+|null), )*?"name": (%b|null), ' % (_TEXT, _TEXT, _TEXT)
)


def of_owner(owner: object) -> dict[str, str]:
    """The field of a record that says whose its job is; none for no owner."""
    return {OWNER: owner} if isinstance(owner, str) and owner else {}


def is_tag(value: object) -> bool:
    """Whether this can be a tag of a job."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TAG_LENGTH and value.isprintable()


def tags_in(value: object) -> tuple[str, ...]:
    """The tags of a header, or of a field of a record, which others may have written."""
    if not value or not isinstance(value, list):
        return ()
    return tuple(filter(is_tag, value[:MAX_TAGS]))


def beginning_of(stored: bytes) -> tuple[str | None, str | None] | None:
    """The owner and the task that a record, or the beginning of one, is of.

    None where it does not begin as ours do: then only all of it tells.
    """
    if (found := _BEGINNING.match(stored)) is None:
        return None
    owner, name = found.groups()
    return None if owner is None else json.loads(owner), json.loads(name)


def owner_of(stored: bytes) -> str | None:
    """The owner of the job of a record; None if it has none."""
    if (beginning := beginning_of(stored)) is not None:
        return beginning[0]
    if b'"owner": ' in stored:  # by a worker of before, or in a result
        with suppress(ValueError):
            owner = _decoded_record(stored).get(OWNER)
            return owner if isinstance(owner, str) else None
    return None


def mark_of(stored: bytes | str, name: str) -> Any:
    """A mark of a job that waits; None if there is none, or the job does not wait any more."""
    with suppress(ValueError):
        if (fields := _decoded_record(stored)).get("status") == State.QUEUED.value:
            return fields.get(name)
    return None


def with_mark(stored: bytes, name: str, value: object) -> bytes:
    """The record with one mark more, or another one. Raises ValueError if it is not a record."""
    fields = json.loads(stored)
    if not isinstance(fields, dict):
        raise ValueError("a record is a JSON object")  # noqa: TRY004  as decoding it says
    fields.pop(name, None)
    items = [*fields.items()]
    ends = (at for at, (field, _) in enumerate(items) if field in (NAME, "result"))
    before = next(ends, len(items))
    return json.dumps(dict([*items[:before], (name, value), *items[before:]])).encode()


def _decoded_record(stored: bytes | str) -> dict[str, Any]:
    record = json.loads(stored)
    return record if isinstance(record, dict) else {}


def arguments_in(tail: bytes) -> str:
    """The arguments, as JSON in plain letters, by the last bytes of a record; empty without any."""
    text = tail.partition(b'"arguments": ')[2].decode(errors="replace")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else ""
