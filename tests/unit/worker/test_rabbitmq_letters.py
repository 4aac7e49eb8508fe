"""A dead letter of RabbitMQ's is kept in the form that all code for dead letters reads."""

from datetime import UTC, datetime
from typing import Any

import pytest
from kombu import Connection
from kombu.message import Message

from service import create_app, get_celery
from service.broker import messages
from service.broker.dead_letters.model import DeadLetter
from service.worker.rabbitmq.letters import Death, envelope, letter

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
DIED: dict[str, Any] = {
    "x-death": [
        {"reason": "delivery_limit", "queue": "shop", "time": AT.replace(tzinfo=None)},
        {"reason": "expired", "queue": "celery_delayed_1", "time": None},
    ],
    "x-first-death-reason": "expired",
}


def dead_lettered(headers: dict[str, Any]) -> Any:
    amqp: Any = get_celery(create_app()).amqp
    task = amqp.as_task_v2("an-id", "demo.my_add", (1, 2), {}, chain=[{"task": "next"}])
    body: Any = b'[[1, 2], {}, {"chain": [{"task": "next"}]}]'  # as AMQP has it
    return Message(
        body=body,
        content_type="application/json",
        content_encoding="utf-8",
        headers={**task.headers, **headers},
        properties={"correlation_id": "an-id", "priority": 3},
        channel=Connection("memory://").channel(),
    )


def test_it_has_all_of_the_message() -> None:
    """And nothing that RabbitMQ has added."""
    message = dead_lettered(DIED)
    death = Death.of(message.headers, "celery")
    assert death == Death("delivery_limit", "shop", AT.timestamp())
    text = envelope(message, death.queue)
    assert text == envelope(message, death.queue)
    assert messages.job_id(text) == "an-id"
    assert messages.embedded(text)["chain"] == [{"task": "next"}]
    payload = messages.read(text)
    assert messages.body(payload)[0] == [1, 2]
    assert payload["properties"]["priority"] == 3
    assert not [name for name in payload["headers"] if name.startswith("x-")]
    read = DeadLetter.decode(letter(text, death, "It died.", 5))
    assert (read.id, read.queue, read.reason, read.deliveries) == ("an-id", "shop", "It died.", 5)
    assert read.at == AT
    assert read.can_be_replayed


def test_what_somebody_has_published_there_is_of_the_default_queue() -> None:
    """It says no reason."""
    death = Death.of({}, "celery")
    assert (death.reason, death.queue) == ("", "celery")
    assert death.told == "The message says nothing of why it is dead."


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("rejected", "The worker rejected the message."),
        ("maxlen", "RabbitMQ dropped the message, as its queue was longer than it may be."),
        ("another", "RabbitMQ gave the message up: another."),
    ],
)
def test_a_letter_says_what_rabbitmq_says(reason: str, told: str) -> None:
    """Not all are rejected by a worker."""
    assert Death(reason, "shop", 0.0).told == told
