"""Reads what RabbitMQ has dead-lettered, and writes it as the broker's dead letters: pure."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from service.worker.task.request import OF_RABBITMQ

# By the reason that RabbitMQ gives.
_TOLD: Final = {
    "rejected": "The worker rejected the message.",
    "maxlen": "RabbitMQ dropped the message, as its queue was longer than it may be.",
    "": "The message says nothing of why it is dead.",
}
_KEPT: Final = ("correlation_id", "reply_to", "priority", "delivery_mode", "expiration")


@dataclass(frozen=True, slots=True)
class Death:
    """Why, when and in which queue RabbitMQ has given a message up."""

    reason: str
    queue: str
    at: float  # seconds since the epoch

    @property
    def told(self) -> str:
        """The reason in a sentence, of one that is neither the delivery limit nor the expiry."""
        return _TOLD.get(self.reason) or f"RabbitMQ gave the message up: {self.reason}."

    @classmethod
    def of(cls, headers: Mapping[str, Any], default_queue: str) -> "Death":
        """The last one that RabbitMQ tells of; a message may have been delayed, too."""
        try:
            last = headers["x-death"][0]
            at = last["time"].replace(tzinfo=UTC).timestamp()
            return cls(str(last["reason"]), str(last["queue"]), at)
        except (LookupError, TypeError, AttributeError):  # somebody has published it there
            return cls("", default_queue, datetime.now(UTC).timestamp())


def envelope(message: Any, queue: str) -> bytes:
    """A message as Kombu's Redis transport would write it: dead letters are kept in that form."""
    headers = {
        name: value
        for name, value in (message.headers or {}).items()
        if not name.startswith(OF_RABBITMQ)
    }
    body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
    properties = {name: message.properties.get(name) for name in _KEPT}
    document = {
        "body": b64encode(body).decode(),
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "headers": headers,
        "properties": {
            **{name: value for name, value in properties.items() if value is not None},
            "body_encoding": "base64",
            "delivery_tag": str(headers.get("id")),  # so that the same message is the same letter
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }
    return json.dumps(document, default=str).encode()


def letter(message: bytes, death: Death, reason: str, deliveries: int) -> str:
    """The record of a dead letter, as dead_letter.lua makes it."""
    return json.dumps(
        {
            "message": message.decode(),
            "queue": death.queue,
            "reason": reason,
            "deliveries": deliveries,
            "at": death.at,
        }
    )
