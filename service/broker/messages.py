"""Reads Celery's messages as they lie in Redis: pure functions on their JSON."""

import json
import re
from base64 import b64decode
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from service.broker.decoding import decode

# Kombu's own name for a message's properties is free-form; a stock worker leaves this one alone.
DELIVERIES: Final = "x-deliveries"
_JSON: Final = "application/json"
# Python's JSON and pickle give up near 1,000 levels, Celery's prefork pool near 500.
_DEEPEST: Final = 400
_MOST: Final = 1 << 31  # deliveries; Redis's Lua counts no further than 2**53
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_ID: Final = re.compile(rb'"id":\s*"([\w.-]{1,64})"')

Payload = dict[str, Any]


class UnreadableMessageError(ValueError):
    """The message cannot be a job; the text says why."""


def read(item: bytes) -> Payload:
    """Decode a message that was taken; raises UnreadableMessageError."""
    return _read(item, decode)


def read_plain(item: bytes) -> Payload:
    """Decode a message to be written again: what Kombu would rebuild stays in its JSON form.

    Raises UnreadableMessageError.
    """
    return _read(item, json.loads)


def _read(item: bytes, decoder: Callable[[bytes], Any]) -> Payload:
    check_depth(item)
    try:
        payload = decoder(item)
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError) as error:
        raise UnreadableMessageError(f"The message cannot be decoded: {error!r}") from error
    if not isinstance(payload, dict) or not isinstance(payload.get("properties"), dict):
        raise UnreadableMessageError("The message is not one of Kombu's.")
    return payload


def check_depth(document: bytes) -> None:
    """Refuse JSON that nests so deep that a worker would fail on it."""
    # Counting is a hundred times cheaper than measuring, and nearly always enough.
    if document.count(b"[") + document.count(b"{") <= _DEEPEST:
        return
    depth = deepest = 0
    for mark in _BRACKETS.findall(_STRINGS.sub(b"", document)):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise UnreadableMessageError(
            f"The message nests {deepest} levels deep; the limit is {_DEEPEST}."
        )


def decode_body(message: Any) -> None:
    """Decode a JSON message's body, which the message then keeps; raises what decoding raises.

    Kombu's decoder is as slow here as in `read`, and is needed as seldom.
    """
    text = message.body or b""
    check_depth(text)
    is_plain = isinstance(text, bytes) and b"__type__" not in text
    if is_plain and message.content_encoding == "utf-8" and _JSON in (message.accept or (_JSON,)):
        message._decoded_cache = decode(text)  # noqa: SLF001 - where `decode` keeps it
    else:
        message.decode()


def job_id(item: bytes) -> str | None:
    """The id of the job that a message asks for, as far as it can be made out."""
    try:
        payload = json.loads(item.decode(errors="replace"))
    except RecursionError:
        # Too deep to be decoded, but somebody waits for it.
        match = _ID.search(item)
        return match[1].decode() if match else None
    except ValueError:
        return None
    try:
        found = payload["headers"]["id"]
    except (TypeError, LookupError):
        found = _id_in_body(payload)
    return found if isinstance(found, str) and found else None


def body(payload: Mapping[str, Any]) -> Any:
    """The decoded body of a JSON message; raises ValueError or RecursionError."""
    encoded = payload["properties"].get("body_encoding") == "base64"
    return json.loads(b64decode(payload["body"]) if encoded else payload["body"])


def _id_in_body(payload: Any) -> Any:
    """Celery's first protocol has everything in the body."""
    try:
        return body(payload)["id"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def deliveries(payload: Mapping[str, Any]) -> int:
    """How often the message was delivered before, without an end."""
    count = payload["properties"].get(DELIVERIES, 0)
    return min(count, _MOST) if isinstance(count, int) and count > 0 else 0


def due(payload: Mapping[str, Any]) -> float | None:
    """When a scheduled job is to run, in seconds since the epoch."""
    try:
        moment = datetime.fromisoformat(payload["headers"]["eta"])
    except (ValueError, TypeError, LookupError):
        return None
    return moment.timestamp() if moment.tzinfo else None


def redelivered(payload: Payload, count: int) -> str:
    """The message, read plainly, as it goes back to its queue, delivered `count` times so far."""
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
