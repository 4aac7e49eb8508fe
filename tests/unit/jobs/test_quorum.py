"""On RabbitMQ every queue is a quorum queue with all that it needs; delays are Celery's own."""

from typing import Any

import pytest
from kombu import Exchange, Queue

from service import create_app, get_celery
from service.jobs.celery.capture import capture_publishes
from service.jobs.celery.quorum import QuorumQueue, dead_letter_queue

RABBITMQ = {"SERVICE_CELERY__BROKER_URL": "amqp://127.0.0.1:1//;amqp://127.0.0.1:2//"}


def celery_with(**celery: Any) -> Any:
    return get_celery(create_app({**RABBITMQ, "SERVICE_CELERY": celery}))


def test_each_queue_is_a_quorum_queue() -> None:
    """The default one, one that a route names, and one of the user's."""
    own = Queue("own", Exchange("own"), "own", queue_arguments={"x-delivery-limit": 9})
    celery = celery_with(task_default_queue="main", task_queues=[Queue("main"), own])
    for name, limit in (("main", 4), ("own", 9), ("routed", 4)):
        queue = celery.amqp.queues[name]
        assert isinstance(queue, QuorumQueue)
        assert queue.exchange.type == "topic"
        assert queue.queue_arguments == {
            "x-queue-type": "quorum",
            "x-delivery-limit": limit,  # of those after the first: SERVICE_MAX_DELIVERIES is 5
            "x-dead-letter-exchange": "main.dead",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        assert queue.consumer_arguments is not None
        assert queue.consumer_arguments["x-consumer-timeout"] > 24 * 86_400_000
    celery.amqp.queues.select("picked")
    assert isinstance(celery.amqp.queues.consume_from["picked"], QuorumQueue)


def test_a_dead_letter_is_not_dropped_however_often_it_is_delivered() -> None:
    """RabbitMQ 4 would drop it after 20 deliveries, which an outage of Redis soon makes."""
    arguments = dead_letter_queue("main.dead").queue_arguments
    assert arguments == {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}


@pytest.mark.parametrize(
    "queue",
    [
        Queue("own", queue_arguments={"x-queue-type": "classic"}),
        Queue("own", exclusive=True),
        Queue("own", auto_delete=True),
    ],
)
def test_a_queue_that_is_to_be_classic_stays_so(queue: Queue) -> None:
    """It says so, or cannot be a quorum queue."""
    celery = celery_with(task_queues=[queue])
    assert type(celery.amqp.queues["own"]) is Queue


def test_all_queues_can_be_classic() -> None:
    """One setting leaves all to Celery."""
    celery = celery_with(task_default_queue_type="classic")
    for name in ("celery", "routed"):
        queue = celery.amqp.queues[name]
        assert type(queue) is Queue
        assert not queue.queue_arguments
        assert queue.exchange.type == "direct"


@pytest.mark.parametrize("due", [0.3, 1, 90, 3600.5])
def test_a_job_that_is_not_due_is_published_to_the_exchange_of_its_delay(due: float) -> None:
    """Celery refuses less than a second, and declares nothing of the queue."""
    celery = celery_with()
    with capture_publishes() as capture:
        celery.send_task("demo.my_add", (1, 2), countdown=due)
    (call,) = capture.calls
    assert call.options["exchange"].name == "celery_delayed_27"
    assert [queue.name for queue in call.options["declare"]] == ["celery"]
    assert int(call.options["routing_key"][:55].replace(".", ""), 2) == max(1, int(due))
    assert call.queue == "celery"  # as records name it
    assert call.due_at is not None


def test_a_queue_is_found_by_the_key_that_a_message_came_by() -> None:
    """Also if it was delayed."""
    own = Queue("own", Exchange("own", "topic"), "key")
    queues = celery_with(task_queues=[own]).amqp.queues
    assert [queues.named(key) for key in ("key", "0." * 28 + "key", "other")] == [
        *("own", "own", "other"),
    ]


def test_rabbitmq_confirms_what_celery_itself_publishes() -> None:
    """A retry of a worker's, for one; and it does not wait for ever."""
    celery = celery_with()
    connection = celery.amqp.producer_pool.connections.connection
    assert connection.transport_options["confirm_publish"]
    celery = get_celery(create_app({"SERVICE_REDIS_URL": "redis://127.0.0.1:1"}))
    connection = celery.amqp.producer_pool.connections.connection
    assert "confirm_publish" not in (connection.transport_options or {})
