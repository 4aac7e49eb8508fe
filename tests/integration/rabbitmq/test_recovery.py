"""Enqueueing goes on after what goes wrong in the process itself, or at one of several nodes."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from amqp import Message
from kombu import Connection

from service.errors import BrokerUnavailableError
from service.parts import parts_of
from service.rabbitmq.client import RabbitClient
from service.rabbitmq.frames import OpenedSocket
from service.rabbitmq.publishing import Publication
from tests.integration.rabbitmq.conftest import Broker, Serving
from tests.support.enqueuing import enqueue_in_the_end
from tests.support.rabbitmq import needs_rabbitmq
from tests.support.sample_tasks import add, leave_note
from tests.support.wait import wait_until_async

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]

WITHIN: Final = 20  # seconds, at most
PATIENT: Final = {"SERVICE_ENQUEUE_TIMEOUT": str(WITHIN)}


@contextmanager
def silent_node() -> Iterator[str]:
    """The address of a node that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//"


def client_of(url: str) -> RabbitClient:
    return RabbitClient(lambda _: OpenedSocket.open(Connection(url, connect_timeout=WITHIN)))


async def test_a_connecting_task_that_is_cancelled_is_begun_anew(broker: Broker) -> None:
    """Whoever waits for the connection has it begun, as does whoever asks later."""
    client = client_of(broker.url)
    before = asyncio.all_tasks()
    client.begin()
    (connecting,) = asyncio.all_tasks() - before
    waiting = asyncio.create_task(client.connection())
    await asyncio.sleep(0)
    connecting.cancel()
    async with asyncio.timeout(WITHIN):
        await (await waiting).ping()
    await client.aclose()


async def test_a_timeout_after_the_end_is_no_outage(broker: Broker) -> None:
    """Nothing would end it, as nothing connects."""
    client = client_of(broker.url)
    await client.aclose()
    client.note_timeout(1)
    client.check()
    async with asyncio.timeout(WITHIN):
        await (await client.connection()).ping()
    await client.aclose()


async def test_a_declaration_that_is_cancelled_is_an_error_of_the_broker(
    broker: Broker, serving: Serving
) -> None:
    """Not a cancellation of the caller. The next job has the queue declared."""
    async with serving(**PATIENT):
        enqueueing = asyncio.create_task(add.enqueue(1, 2))
        for task in await wait_until_async(_declaring, description="the queue is being declared"):
            task.cancel()
        with pytest.raises(BrokerUnavailableError, match="was cancelled"):
            await enqueueing
        await add.enqueue(1, 2)
    assert broker.take()


def _declaring() -> list[asyncio.Task[Any]]:
    """The tasks that wait for a thread of the publisher's."""
    return [task for task in asyncio.all_tasks() if "PublisherThreads.run" in repr(task)]


async def test_a_slow_declaration_is_no_fault_of_the_connection_nor_of_the_next_job(
    broker: Broker, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection that publishes stays, and the queue is declared anew."""
    caplog.set_level(logging.WARNING)
    go_on = threading.Event()
    async with serving(SERVICE_ENQUEUE_TIMEOUT="4") as app:
        publisher: Any = await parts_of(app).enqueuer.publisher()
        await wait_until_async(lambda: _answers(publisher), description="there is a connection")
        busy = [asyncio.create_task(publisher.threads.run(go_on.wait)) for _ in range(20)]
        try:
            with pytest.raises(BrokerUnavailableError):
                await add.enqueue(1, 2)
            await asyncio.wait([*busy, *_declaring()])
        finally:
            go_on.set()
        await asyncio.gather(*busy, return_exceptions=True)
        await add.enqueue(1, 2)
    assert "is lost" not in caplog.text
    assert broker.take()


async def test_a_first_node_that_is_silent_holds_up_no_job(
    broker: Broker, serving: Serving
) -> None:
    """Of a process that was just started: the next node declares the queue."""
    with silent_node() as silent:
        url = f"{silent};{broker.url}"
        async with serving(SERVICE_CELERY__BROKER_URL=url, SERVICE_ENQUEUE_TIMEOUT="2"):
            await enqueue_in_the_end(add, 1, 2)
    assert broker.take()


async def test_a_server_that_takes_less_than_is_sent_has_more_refused_at_once(
    broker: Broker, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection stays, and what was sent before is accepted."""
    caplog.set_level(logging.WARNING)
    async with serving(**PATIENT) as app:
        await add.enqueue(1, 2)
        publisher: Any = await parts_of(app).enqueuer.publisher()
        with broker.frozen():
            sent = asyncio.gather(*(leave_note.enqueue("x" * 300_000) for _ in range(80)))
            await wait_until_async(lambda: _refusal(publisher), description="it is behind")
            with pytest.raises(BrokerUnavailableError, match="slower than") as info:
                await add.enqueue(1, 2)
            assert not info.value.maybe_accepted
        await sent
        assert not _refusal(publisher)
    assert "is lost" not in caplog.text


def _refusal(publisher: Any) -> str:
    try:
        publisher.check()
    except BrokerUnavailableError as error:
        return str(error)
    return ""


async def _answers(publisher: Any) -> bool:
    try:
        await publisher.ping()
    except BrokerUnavailableError:
        return False
    return True


@pytest.mark.parametrize(
    ("refusal", "is_ours"),
    [
        ("NOT_FOUND - no exchange 'shop' in vhost '/'", True),
        ("NOT_FOUND - no exchange 'other' in vhost 'shop'", False),
        ("ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'shop'", False),
        ("PRECONDITION_FAILED - invalid expiration '70': {value_too_large,70}", True),
        ("NOT_FOUND - no exchange '70' in vhost '/'", False),
        ("PRECONDITION_FAILED - message size 2 is larger than configured max size 1", True),
    ],
)
def test_a_refusal_names_a_message_by_the_kind_and_the_name(refusal: str, is_ours: bool) -> None:
    """A vhost or a user may be called as an exchange is."""
    assert Publication(Message("{}", expiration="70"), "shop", "x").is_named_in(refusal) is is_ours


def test_rabbitmq_has_a_name_for_the_exchange_that_has_none() -> None:
    """It refuses a user who may not publish there."""
    refusal = "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'u'"
    assert Publication(Message("{}"), "", "x").is_named_in(refusal)


async def test_a_queue_that_is_not_told_of_is_unknown(broker: Broker) -> None:
    """Not empty, as one that does not exist is: RabbitMQ has locked it for another connection."""
    connection = await broker.connected()
    with Connection(broker.url) as owner:
        channel: Any = owner.default_channel
        channel.queue_declare(broker.queue, exclusive=True)
        assert await connection.counts_of(broker.queue) is None
        assert await connection.counts_of("nobody's") == (0, 0)
    connection.close("the test ends")
