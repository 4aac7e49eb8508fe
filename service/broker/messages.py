"""Reads and rewrites Celery's messages as they lie in Redis: pure functions on their JSON.

JSON is decoded as Kombu does it, in a quarter of the time. `use_in_celery` has Celery do the same:
it replaces Kombu's serializer "json", by a public call, for the whole process; only a worker does.
"""

import json
import re
from base64 import b64decode
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec
from kombu import serialization
from kombu.utils.json import dumps, loads

# Kombu's own name for a message's properties is free-form; a stock worker leaves this one alone.
DELIVERIES: Final = "x-deliveries"
# In memory only: the ETA of a scheduled job that is due, which Celery's worker must not wait for.
ETA: Final = "x-eta"
JSON: Final = "application/json"
# Python's JSON and pickle give up near 1,000 levels, Celery's prefork pool near 500.
_MAX_DEPTH: Final = 400
_MAX_DELIVERIES: Final = 1 << 31  # Redis's Lua counts no further than 2**53
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_ID: Final = re.compile(rb'"id":\s*"([\w.-]{1,64})"')

Payload = dict[str, Any]


class UnreadableMessageError(ValueError):
    """The message cannot be a job; the text says why."""


def decode_json(document: Any) -> Any:
    """What Kombu's own decoder makes of the document; raises what it raises."""
    if isinstance(document, bytes | str):
        # Kombu calls a hook for every object, to rebuild what `__type__` names.
        marked = b"__type__" if isinstance(document, bytes) else "__type__"
        if marked not in document:  # type: ignore[operator]  # both are of one type
            try:
                return msgspec.json.decode(document)
            except (msgspec.MsgspecError, ValueError):
                pass  # it is stricter (about NaN, for one), and words errors in its own way
    return loads(document)


def use_in_celery() -> None:
    """Have Celery's worker, which decodes each body twice, use `decode_json`."""
    serialization.register("json", dumps, decode_json, content_type=JSON, content_encoding="utf-8")


def read(message: bytes, decoder: Callable[[bytes], Any] = decode_json) -> Payload:
    """Decode a message that was taken. Raises UnreadableMessageError."""
    check_depth(message)
    try:
        payload = decoder(message)
    except MemoryError:
        raise
    except Exception as error:  # what `__type__` names may raise anything, ArithmeticError for one
        raise UnreadableMessageError(f"The message cannot be decoded: {error!r}") from error
    if not isinstance(payload, dict) or not isinstance(payload.get("properties"), dict):
        raise UnreadableMessageError("The message is not one of Kombu's.")
    return payload


def read_plain(message: bytes) -> Payload:
    """Decode a message to be written again: what Kombu would rebuild stays in its JSON form.

    Raises UnreadableMessageError.
    """
    return read(message, json.loads)


def check_depth(document: bytes) -> None:
    """Refuse JSON that nests so deep that a worker would fail on it."""
    # Counting is a hundred times cheaper than measuring, and nearly always enough.
    if document.count(b"[") + document.count(b"{") <= _MAX_DEPTH:
        return
    depth = deepest = 0
    for mark in _BRACKETS.findall(_STRINGS.sub(b"", document)):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise UnreadableMessageError(
            f"The message nests {deepest} levels deep; the limit is {_MAX_DEPTH}."
        )


def decode_body(message: Any) -> None:
    """Decode the body of Kombu's `message`, which keeps it; raises what decoding raises.

    Raises UnreadableMessageError for an id or arguments of the wrong types: Celery acknowledges
    such a job, and tells nobody.
    """
    if isinstance(message.headers, dict) and type(message.headers.get("id")) is int:
        raise UnreadableMessageError("The job's id is a number.")
    text = message.body or b""
    check_depth(text)
    is_plain = isinstance(text, bytes) and b"__type__" not in text
    if is_plain and message.content_encoding == "utf-8" and JSON in (message.accept or (JSON,)):
        message._decoded_cache = decode_json(text)  # noqa: SLF001 - where `decode` keeps it
    else:
        message.decode()
    match message._decoded_cache:  # noqa: SLF001
        case [args, kwargs, _] if type(args) is not list or type(kwargs) is not dict:
            raise UnreadableMessageError("The job's arguments are no list, or no object.")


def job_id(message: bytes) -> str | None:
    """The id of the job that a message asks for, as far as it can be made out."""
    try:
        payload = json.loads(message.decode(errors="replace"))
    except RecursionError:
        # Too deep to be decoded; but a client may wait for the job.
        match = _ID.search(message)
        return match[1].decode() if match else None
    except ValueError:
        return None
    found = None
    try:
        found = payload["headers"]["id"]
    except (TypeError, LookupError):
        # Celery's first protocol has everything in the body.
        with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
            found = body(payload)["id"]
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)  # by which name its record is stored
    return found if isinstance(found, str) and found else None


def body(payload: Mapping[str, Any]) -> Any:
    """The decoded body of a JSON message; raises ValueError or RecursionError."""
    encoded = payload["properties"].get("body_encoding") == "base64"
    return json.loads(b64decode(payload["body"]) if encoded else payload["body"])


def embedded(message: bytes) -> dict[str, Any]:
    """The callbacks, errbacks, chain and chord of a message, as far as they can be made out."""
    with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        _, _, found = body(read_plain(message))
        return dict(found)
    return {}


def deliveries(payload: Mapping[str, Any]) -> int:
    """How often the message was delivered before without being acknowledged."""
    count = payload["properties"].get(DELIVERIES, 0)
    return min(count, _MAX_DELIVERIES) if isinstance(count, int) and count > 0 else 0


def due(payload: Mapping[str, Any]) -> float | None:
    """When a scheduled job is to run, in seconds since the epoch."""
    try:
        moment = datetime.fromisoformat(payload["headers"]["eta"])
    except (ValueError, TypeError, LookupError):
        return None
    return moment.timestamp() if moment.tzinfo else None


def redelivered(payload: Payload, count: int) -> str:
    """A plainly read message as it goes back to its queue, delivered `count` times so far."""
    properties = {**payload["properties"], DELIVERIES: count}
    if isinstance(properties.get("delivery_info"), dict):
        properties["delivery_info"] = {**properties["delivery_info"], "redelivered": True}
    headers = payload.get("headers")
    headers = {**headers, "redelivered": True} if isinstance(headers, dict) else headers
    return json.dumps({**payload, "headers": headers, "properties": properties})


def list_of(queue: str, payload: Mapping[str, Any], steps: Sequence[int], separator: str) -> str:
    """The list of a queue that a message's priority belongs to, as Kombu chooses it."""
    try:
        wanted = max(0, min(9, int(payload["properties"]["priority"])))
    except (KeyError, TypeError, ValueError, OverflowError):
        wanted = 0
    step = steps[bisect(list(steps), wanted) - 1]
    return f"{queue}{separator}{step}" if step else queue
