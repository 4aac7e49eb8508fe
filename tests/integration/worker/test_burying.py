"""What RabbitMQ gives up is kept where all those look who read dead letters."""

import asyncio
from typing import Any

from kombu import Connection
from kombu.message import Message
from redis import Redis

from service import create_app, get_celery
from service.dashboard.extension import dashboard_of
from service.redis.keys import broker_keys
from service.worker.rabbitmq.burying import Burier


def test_a_prefix_that_code_has_given_celery_begins_the_key(redis_url: str) -> None:
    """Readers know of it: by the settings alone they would not."""
    broker = {"SERVICE_CELERY__BROKER_URL": "amqp://127.0.0.1:1//"}
    app = create_app({"SERVICE_REDIS_URL": redis_url, **broker})
    celery: Any = get_celery(app)
    celery.conf.broker_transport_options = {"global_keyprefix": "shop:"}
    task = celery.amqp.as_task_v2("an-id", "demo.my_add", (1, 2), {})
    channel: Any = Connection("memory://").channel()
    message = Message(
        body=b"[[1, 2], {}, {}]",  # type: ignore[arg-type]  # as AMQP has it
        content_type="application/json",
        content_encoding="utf-8",
        headers=task.headers,
        properties={"correlation_id": "an-id"},
        delivery_tag="a-tag",
        channel=channel,
    )
    try:
        Burier(celery).bury(message)
    finally:
        asyncio.run(dashboard_of(app).recorder.aclose())
    with Redis.from_url(redis_url) as redis:
        assert redis.llen(broker_keys(celery.conf).dead_letters_of("celery")) == 1
