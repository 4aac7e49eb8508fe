"""Jobs are published on RabbitMQ as Celery does it, and none is accepted that no queue has."""

import asyncio
import json
import logging
import struct
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import get_ident
from typing import Any
from uuid import uuid4

import pytest
from amqp import Message, spec
from celery import chain, group
from kombu.exceptions import OperationalError
from quart import Quart

from service import enqueue, get_celery
from service.errors import BrokerUnavailableError, InvalidArgumentsError
from service.jobs.celery.connections import COPY
from service.parts import parts_of
from service.rabbitmq.connection import RabbitConnection
from service.rabbitmq.publishing import MessageNackedError, Publication
from tests.integration.rabbitmq.conftest import Broker, Serving
from tests.support.enqueuing import enqueue_in_the_end
from tests.support.rabbitmq import needs_rabbitmq
from tests.support.relay import relaying
from tests.support.sample_tasks import add, leave_note
from tests.support.tls import TlsFront, make_certificate
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]

PATIENT = {"SERVICE_ENQUEUE_TIMEOUT": "20"}


def on_the_wire(message: Any) -> tuple[bytes, bytes, tuple[Any, ...]]:
    """The bytes of a message's properties and body, and where it was published to."""
    message.properties.setdefault("application_headers", {})
    to = message.delivery_info["exchange"], message.delivery_info["routing_key"]
    body = message.body.encode() if isinstance(message.body, str) else message.body
    return message._serialize_properties(), body, to


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": 5},
        {"expires": datetime.now(UTC) + timedelta(days=1)},
        {"headers": {"tenant": "ä", "n": 3, "big": 2**40, "half": 0.1, "list": [1, None]}},
    ],
    ids=["plain", "priority", "expires", "headers"],
)
async def test_a_message_has_the_bytes_that_celery_publishes(
    broker: Broker, serving: Serving, options: dict[str, Any]
) -> None:
    """Whoever consumes it finds the same types in the same order; only the moment differs."""
    job_id = str(uuid4())
    async with serving(**PATIENT) as app:
        for _ in range(2):  # the second from a template
            await add.options(job_id=job_id, **options).enqueue(1, 2)
            ours = broker.take()
            await parts_of(app).redis.delete(parts_of(app).keys.record(job_id))
        celery: Any = get_celery(app)
        task = celery.task_named(add.name)
        task.apply_async((1, 2), task_id=job_id, **options)
        theirs = broker.take()
    ours.headers["queued_at"] = theirs.headers["queued_at"]
    if "expires" in options:
        left = int(ours.properties["expiration"]) - int(theirs.properties["expiration"])
        assert 0 <= left < 60_000  # milliseconds
        ours.properties["expiration"] = theirs.properties["expiration"]
    assert on_the_wire(ours) == on_the_wire(theirs)
    assert json.loads(ours.body)[0] == [1, 2]


async def test_many_are_in_flight_on_one_connection(broker: Broker, serving: Serving) -> None:
    """Each is confirmed, no thread publishes, and the records say nothing of the way there."""
    async with relaying(broker.port) as relay:
        url = broker.url.replace(str(broker.port), str(relay.port))
        async with serving(SERVICE_CELERY__BROKER_URL=url, **PATIENT) as app:
            await add.enqueue(1, 2)
            before = relay.taken
            jobs = await asyncio.gather(*(add.enqueue(1, 2) for _ in range(300)))
            assert relay.taken == before
            records: Any = await parts_of(app).redis.mget(
                [parts_of(app).keys.record(job.id) for job in jobs]
            )
            assert not any(b"unsent" in record for record in records)

    def count(channel: Any) -> int:
        return int(channel.queue_declare(broker.queue, passive=True).message_count)

    assert broker.with_channel(count) == 301


async def test_a_canvas_arrives_in_its_order(broker: Broker, serving: Serving) -> None:
    """Its messages are in flight together."""
    async with serving(**PATIENT):
        await enqueue(group(chain(add.s(n, 0), add.s(1)) for n in range(150)))
    firsts = [json.loads(broker.take().body)[0][0] for _ in range(150)]
    assert firsts == [*range(150)]


async def test_a_connection_that_was_closed_costs_nobody_an_error(
    broker: Broker, serving: Serving
) -> None:
    """As firewalls and servers do with idle ones: what was on its way goes on the next one."""
    async with relaying(broker.port) as relay:
        url = broker.url.replace(str(broker.port), str(relay.port))
        async with serving(SERVICE_CELERY__BROKER_URL=url, **PATIENT):
            await add.enqueue(1, 2)
            relay.cut()
            await asyncio.gather(*(add.enqueue(1, 2) for _ in range(20)))
            relay.cuts_next_message = True
            await asyncio.gather(*(add.enqueue(1, 2) for _ in range(200)))
            assert not relay.cuts_next_message


async def test_a_job_is_published_where_the_answer_about_its_record_was_lost(
    broker: Broker, serving: Serving, valkey: Valkey
) -> None:
    """Its record is written once more then, and found: nobody else can have sent the job."""
    async with relaying(valkey.port) as relay:
        url = f"redis://127.0.0.1:{relay.port}/0"
        async with serving(SERVICE_REDIS_URL=url, **PATIENT):
            await add.enqueue(1, 2)
            relay.cuts_next_answer = True
            await add.enqueue(3, 4)
            assert not relay.cuts_next_answer
    assert [json.loads(broker.take().body)[0] for _ in range(2)] == [[1, 2], [3, 4]]


async def test_a_record_is_written_once_where_only_its_caller_can_know_the_id(
    broker: Broker, serving: Serving, own_valkey: Valkey
) -> None:
    """A mark, and what removes it, would be for those who enqueue the same id again."""

    def writes() -> int:
        with own_valkey.client() as redis:
            return int(redis.info("commandstats")["cmdstat_set"]["calls"])

    async with serving(SERVICE_REDIS_URL=own_valkey.url, **PATIENT):
        await add.enqueue(1, 2)
        before = writes()
        await asyncio.gather(*(add.enqueue(1, 2) for _ in range(100)))
        assert writes() - before < 150
        await asyncio.gather(*(add.options(job_id=str(n)).enqueue(1, 2) for n in range(100)))
        assert writes() - before >= 300


FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


@asynccontextmanager
async def with_full_queue(
    broker: Broker, serving: Serving, *, timeout: str = "3"
) -> AsyncIterator[Quart]:
    """An app whose queue has its only job."""
    settings = {"SERVICE_CELERY__TASK_DEFAULT_QUEUE_TYPE": "classic"}
    async with serving(**settings, SERVICE_ENQUEUE_TIMEOUT=timeout) as app:
        celery: Any = get_celery(app)
        celery.amqp.queues[broker.queue].queue_arguments = FULL
        await enqueue_in_the_end(add, 1, 2, job_id="first")
        yield app


async def test_a_job_that_its_queue_does_not_take_in_time_is_not_accepted(
    broker: Broker, serving: Serving
) -> None:
    """Until the deadline, as a leader may just be elected; then there is no record of it."""
    async with with_full_queue(broker, serving) as app:
        with pytest.raises(BrokerUnavailableError, match="does not take the job just now") as info:
            await add.options(job_id="second").enqueue(1, 2)
        assert not info.value.maybe_accepted
        redis, keys = parts_of(app).redis, parts_of(app).keys
        assert await redis.get(keys.record("second")) is None
        broker.take()
        await enqueue_in_the_end(add, 1, 2, job_id="second")


async def test_a_job_that_is_not_accepted_leaves_no_record(
    broker: Broker, serving: Serving
) -> None:
    """Nor one whose id nobody knows."""
    async with with_full_queue(broker, serving) as app:
        redis, keys = parts_of(app).redis, parts_of(app).keys
        before = set(await redis.keys(keys.record("*")))
        with pytest.raises(BrokerUnavailableError, match="does not take the job just now"):
            await add.enqueue(1, 2)
        assert set(await redis.keys(keys.record("*"))) == before


async def test_a_job_that_its_queue_does_not_take_is_tried_again_on_a_new_channel(
    broker: Broker, serving: Serving
) -> None:
    """A channel never learns the leader that was elected in place of a dead one."""
    async with with_full_queue(broker, serving, timeout="20") as app:
        opened = await broker.connected()
        publication = _publication(broker.queue)
        with pytest.raises(MessageNackedError):
            await opened.publish(publication)
        await wait_until_async(partial(_has_renewed, opened), description="a new channel")
        other = f"{broker.queue}-other"

        def declare(channel: Any) -> None:
            channel.queue_declare(other, durable=True, auto_delete=False)

        await asyncio.to_thread(broker.with_channel, declare)
        await asyncio.gather(*(opened.publish(_publication(other)) for _ in range(50)))
        assert await opened.counts_of(other) == (50, 0)
        assert not opened.lost
        opened.close("the test ends")
        publisher: Any = await parts_of(app).enqueuer.publisher()
        ours = await publisher._rabbit.connection()
        before = ours.publish_channels
        enqueueing = asyncio.create_task(add.options(job_id="second").enqueue(1, 2))
        await wait_until_async(
            lambda: ours.publish_channels != before, description="it is tried on a new channel"
        )
        await asyncio.to_thread(broker.take)
        await enqueueing


async def test_kombu_pauses_before_it_publishes_what_was_not_taken_again(
    broker: Broker, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the time that it takes to elect a leader, and no pause is long after an outage."""
    pauses: dict[int, list[float]] = defaultdict(list)

    def pause(seconds: float) -> None:
        pauses[get_ident()].append(seconds)

    def publish(producer: Any) -> int:
        to = {"exchange": "", "routing_key": broker.queue, "retry": True}
        with pytest.raises(OperationalError):
            producer.publish({}, retry_policy={"max_retries": 6}, **to)
        return get_ident()

    async with with_full_queue(broker, serving) as app:
        celery: Any = get_celery(app)
        confirmed = {"confirm_publish": True}
        with celery.connection_for_write(transport_options=confirmed) as connection:
            connection.ensure_connection(timeout=20)
            producer = celery.amqp.Producer(connection, auto_declare=False)
            with monkeypatch.context() as patched:
                patched.setattr(time, "sleep", pause)
                thread = await asyncio.to_thread(publish, producer)
    assert pauses[thread] == [0.2, 0.4, 0.8, 0.8, 0.8, 0.8]


async def test_what_celery_publishes_again_is_marked(broker: Broker, serving: Serving) -> None:
    """Where a server that stops has closed the connection, and may have had the message."""
    text = b"CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    close = struct.pack(">HHHB", *spec.Connection.Close, 320, len(text)) + text + bytes(4)
    async with relaying(broker.port) as relay:
        url = broker.url.replace(str(broker.port), str(relay.port))
        async with serving(SERVICE_CELERY__BROKER_URL=url) as app:
            publish = partial(get_celery(app).send_task, add.name, (1, 2))
            await asyncio.to_thread(publish)
            relay.next_answer = struct.pack(">BHI", 1, 0, len(close)) + close + b"\xce"
            await asyncio.to_thread(publish)
            assert not relay.next_answer
    assert [COPY in broker.take().headers for _ in range(3)] == [False, False, True]


def _publication(queue: str) -> Publication:
    return Publication(Message("{}", delivery_mode=2), "", queue, mandatory=True)


async def _has_renewed(opened: RabbitConnection) -> bool:
    before = {*opened.publish_channels}
    opened.renew_channel()
    return before != {*opened.publish_channels}


async def test_a_queue_that_was_deleted_is_declared_again(broker: Broker, serving: Serving) -> None:
    """Nothing is accepted that no queue has."""
    async with serving(**PATIENT):
        await add.enqueue(1, 2)
        broker.with_channel(lambda channel: channel.queue_delete(broker.queue))
        await asyncio.gather(*(add.enqueue(1, 2) for _ in range(8)))
    assert all(broker.take() for _ in range(8))


@pytest.mark.parametrize(
    "options",
    [{"headers": {"x": object()}}, {"headers": {"n": 2**70}}, {"headers": {"of": uuid4()}}],
    ids=["object", "integer", "uuid"],
)
async def test_what_amqp_cannot_encode_is_the_error_of_its_job_alone(
    broker: Broker, serving: Serving, options: dict[str, Any]
) -> None:
    """It has no record, and what is enqueued after it is confirmed."""
    async with serving(**PATIENT) as app:
        with pytest.raises(InvalidArgumentsError, match="AMQP cannot encode"):
            await add.options(job_id="bad", **options).enqueue(1, 2)
        assert await parts_of(app).redis.get(parts_of(app).keys.record("bad")) is None
        await add.enqueue(1, 2)
    assert broker.take()


async def test_a_message_that_cannot_be_encoded_leaves_the_confirmations_in_place(
    broker: Broker,
) -> None:
    """RabbitMQ counts only the messages that it gets."""
    opened = await broker.connected()
    unencodable = Publication(Message("{}", application_headers={"n": 2**70}), "", broker.queue)
    with pytest.raises(struct.error):
        await opened.publish(unencodable)
    await asyncio.wait_for(opened.publish(Publication(Message("{}"), "", broker.queue)), 20)
    opened.close("the test ends")


async def test_celerys_own_code_declares_a_queue_again_as_well(
    broker: Broker, serving: Serving
) -> None:
    """What `delay()` and a group send, though their connection has declared it once."""
    async with serving(**PATIENT) as app:
        task = get_celery(app).task_named(add.name)

        def send() -> None:
            for publish in (task.delay, lambda *_: group(task.s(1, 2), task.s(3, 4))()):
                publish(1, 2)
                broker.with_channel(lambda channel: channel.queue_delete(broker.queue))
                publish(1, 2)
                broker.with_channel(lambda channel: channel.queue_delete(broker.queue))
                publish(1, 2)
                publish(1, 2)

        await asyncio.to_thread(send)
    assert len([broker.take() for _ in range(4)]) == 4


@pytest.mark.parametrize("by_celery", [False, True])
async def test_a_scheduled_job_has_a_queue_that_was_deleted_declared_again(
    broker: Broker, serving: Serving, by_celery: bool
) -> None:
    """Before it is due: RabbitMQ drops it then, if there is none."""
    async with serving(**PATIENT) as app:
        task = get_celery(app).task_named(add.name)

        async def send(**options: Any) -> None:
            if by_celery:
                await asyncio.to_thread(partial(task.apply_async, (1, 2), **options))
            else:
                await add.options(**options).enqueue(1, 2)

        await send()
        broker.with_channel(lambda channel: channel.queue_delete(broker.queue))
        await send(countdown=1)
        assert await asyncio.to_thread(broker.take)


async def test_what_rabbitmq_refuses_is_the_error_of_its_job_alone(
    broker: Broker, serving: Serving
) -> None:
    """It closes the channel of all: for an unknown exchange, and an expiry in many years."""
    async with serving(**PATIENT) as app:
        celery: Any = get_celery(app)
        celery.conf.task_routes = {"sample.look": {"exchange": "nowhere", "routing_key": "x"}}
        celery.amqp.flush_routes()
        del celery.amqp.router
        look = parts_of(app).tasks["sample.look"]
        far = add.options(expires=datetime.now(UTC) + timedelta(days=7000))
        others = (add.enqueue(1, 2) for _ in range(20))
        outcomes = await asyncio.gather(
            look.enqueue(), far.enqueue(1, 2), *others, return_exceptions=True
        )
    refused = [str(each) for each in outcomes if isinstance(each, BrokerUnavailableError)]
    assert len(refused) == 2
    assert "'nowhere'" in refused[0]
    assert "invalid expiration" in refused[1]


async def test_it_speaks_tls_as_celery_is_told_to(
    broker: Broker, serving: Serving, tmp_path: Any
) -> None:
    """By the address and `broker_use_ssl`, with large messages too."""
    certificate, key = make_certificate(tmp_path)
    with TlsFront(broker.port, certificate, key) as front:
        url = broker.url.replace("amqp:", "amqps:").replace(str(broker.port), str(front.port))
        trusted = json.dumps({"ca_certs": str(certificate), "server_hostname": "127.0.0.1"})
        tls = {"SERVICE_CELERY__BROKER_URL": url, "SERVICE_CELERY__BROKER_USE_SSL": trusted}
        async with serving(**tls, **PATIENT):
            await asyncio.gather(*(leave_note.enqueue("x" * 300_000) for _ in range(20)))
    assert len(json.loads(broker.take().body)[0][0]) == 300_000


async def test_the_first_node_that_answers_is_taken(broker: Broker, serving: Serving) -> None:
    """Addresses are separated by semicolons."""
    url = f"amqp://guest:guest@127.0.0.1:1//;{broker.url}"
    async with serving(SERVICE_CELERY__BROKER_URL=url, **PATIENT):
        await add.enqueue(1, 2)
    assert broker.take()


async def test_a_caller_that_goes_away_leaves_no_job_without_an_end(
    broker: Broker, serving: Serving
) -> None:
    """Its client has disconnected while RabbitMQ stood still; sending goes on to its end."""
    async with serving(**PATIENT) as app:
        await enqueue_in_the_end(add, 1, 2, job_id="early")
        assert await asyncio.to_thread(broker.take)
        with broker.frozen():
            single = asyncio.create_task(add.options(job_id="late").enqueue(1, 2))
            members = [add.s(n, 0).set(task_id=f"late-{n}") for n in range(250)]
            canvas = asyncio.create_task(enqueue(group(members)))
            for job_id in ("late", "late-0"):
                await wait_until_async(
                    partial(_is_unsent, app, job_id), description=f"{job_id} has a record"
                )
            for calling in (single, canvas):
                calling.cancel()
            await asyncio.wait([single, canvas])
            assert single.cancelled()
            assert canvas.cancelled()
        sent = {(await asyncio.to_thread(broker.take)).headers["id"] for _ in range(251)}
        assert sent == {"late", *(f"late-{n}" for n in range(250))}
        for job_id in sent:
            await wait_until_async(
                partial(_is_sent, app, job_id), description="its record says that it is sent"
            )


async def test_a_caller_that_goes_away_has_a_job_that_is_not_sent_be_in_doubt(
    broker: Broker, serving: Serving
) -> None:
    """As for a caller that waits: its record says what is so, and it can be sent again."""
    async with serving(SERVICE_ENQUEUE_TIMEOUT="1") as app:
        await enqueue_in_the_end(add, 1, 2, job_id="early")
        with broker.frozen():
            calling = asyncio.create_task(add.options(job_id="late").enqueue(1, 2))
            await wait_until_async(partial(_is_unsent, app, "late"), description="there is one")
            calling.cancel()
            await asyncio.wait([calling])
            await wait_until_async(partial(_is_in_doubt, app), description="it says so")
        await enqueue_in_the_end(add, 1, 2, job_id="late")
        assert await _is_sent(app, "late")


async def _record_of(app: Quart, job_id: str) -> bytes:
    record: Any = await parts_of(app).redis.get(parts_of(app).keys.record(job_id))
    return record or b""


async def _is_unsent(app: Quart, job_id: str) -> bool:
    return b'"unsent"' in await _record_of(app, job_id)


async def _is_in_doubt(app: Quart) -> bool:
    return b'"unsent": 1.0' in await _record_of(app, "late")


async def _is_sent(app: Quart, job_id: str) -> bool:
    return b'"unsent"' not in (record := await _record_of(app, job_id)) and bool(record)


async def test_a_canvas_of_which_nothing_is_sent_leaves_no_record(
    broker: Broker, serving: Serving
) -> None:
    """Nor of the jobs that were to follow, which would wait for ever."""
    async with with_full_queue(broker, serving, timeout="1") as app:
        parts = [add.s(1, 2).set(task_id="head"), add.s(3).set(task_id="follower")]
        with pytest.raises(BrokerUnavailableError) as info:
            await enqueue(chain(*parts))
        assert not info.value.maybe_accepted
        assert [await _record_of(app, part) for part in ("head", "follower")] == [b"", b""]


async def head_and_get(app: Quart) -> tuple[int, int, int]:
    client = app.test_client()
    asked = await client.head("/"), await client.get("/"), await client.get("/readyz")
    return asked[0].status_code, asked[1].status_code, asked[2].status_code


async def test_a_frozen_server_is_an_error_in_time_and_then_at_once(
    broker: Broker, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """HEAD tells it as GET does. When it goes on, jobs are taken again, without a restart."""
    caplog.set_level(logging.WARNING)
    async with serving(SERVICE_ENQUEUE_TIMEOUT="1") as app:
        await enqueue_in_the_end(add, 1, 2, job_id="early")
        assert (await head_and_get(app))[0] == 200
        with broker.frozen():
            with pytest.raises(BrokerUnavailableError, match="RabbitMQ is not available") as info:
                await add.options(job_id="late").enqueue(1, 2)
            assert info.value.maybe_accepted
            with pytest.raises(BrokerUnavailableError) as known:
                await add.options(job_id="later").enqueue(1, 2)
            assert not known.value.maybe_accepted
            assert await head_and_get(app) == (503, 503, 503)
        await enqueue_in_the_end(add, 1, 2, job_id="late")
        await wait_until_async(
            lambda: "available again" in caplog.text, description="the log tells of the end"
        )
