"""A worker's connection is read and written in large pieces, and nothing is left in between."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Producer, Queue
from kombu.asynchronous import Hub

from service.worker.rabbitmq.buffering import BufferedTransport
from tests.integration.rabbitmq.conftest import Broker
from tests.support.rabbitmq import needs_rabbitmq
from tests.support.tls import TlsFront, make_certificate
from tests.support.wait import PATIENCE

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]


def consume(broker: Broker, url: str, options: Mapping[str, Any], count: int) -> list[Any]:
    """The bodies of so many messages, each acknowledged, by Kombu's hub as a worker has it."""
    found: list[Any] = []
    queue, hub = Queue(broker.queue), Hub()
    with Connection(url, **options) as connection:
        channel: Any = connection.default_channel
        amqp = channel.connection
        connection.transport.register_with_event_loop(amqp, hub)
        BufferedTransport(amqp, hub, lambda: True)

        def take(message: Any) -> None:
            found.append(message.payload)
            message.ack()
            if len(found) % 100 == 10:  # waits for an answer, in the midst of deliveries
                channel.queue_declare(broker.queue, passive=True)

        channel.basic_qos(0, 150, False)
        with Consumer(channel, [queue], on_message=take, auto_declare=False):
            loop, deadline = hub.create_loop(), time.monotonic() + PATIENCE
            while len(found) < count and time.monotonic() < deadline:
                next(loop)
    hub.close()
    return found


def publish(broker: Broker, count: int) -> None:
    """Bodies of many sizes, of one frame and of several."""
    with Connection(broker.url) as connection:
        channel: Any = connection.default_channel
        Queue(broker.queue)(channel).declare()
        producer = Producer(channel)
        for number in range(count):
            text = "x" * (300_000 if number % 250 == 100 else 7 * number)
            producer.publish([number, text], routing_key=broker.queue)


@pytest.mark.parametrize("count", [20, 600])
def test_all_deliveries_are_handled_and_acknowledged(broker: Broker, count: int) -> None:
    """Also what came along with an answer: the socket says nothing of that any more."""
    publish(broker, count)
    found = consume(broker, broker.url, {}, count)
    assert [number for number, _ in found] == [*range(count)]
    assert all(len(text) in (300_000, 7 * number) for number, text in found)
    assert left(broker) == 0


def test_so_they_are_over_tls(broker: Broker, tmp_path: Path) -> None:
    """There the library may have read more than it was asked for."""
    publish(broker, 300)
    certificate, key = make_certificate(tmp_path)
    with TlsFront(broker.port, certificate, key) as front:
        url = broker.url.replace("amqp:", "amqps:").replace(str(broker.port), str(front.port))
        tls = {"ca_certs": str(certificate), "server_hostname": "127.0.0.1"}
        assert len(consume(broker, url, {"ssl": tls}, 300)) == 300
    assert left(broker) == 0


def left(broker: Broker) -> int:
    """Messages that wait; a connection that has ended gives back what it had not acknowledged."""

    def count(channel: Any) -> int:
        return int(channel.queue_declare(broker.queue, passive=True).message_count)

    return int(broker.with_channel(count))
