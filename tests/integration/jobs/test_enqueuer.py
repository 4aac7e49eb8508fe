"""What is enqueued is what Celery would have sent, once, and within its time."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group
from celery.signals import after_task_publish, before_task_publish
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quart import Quart
from redis import Redis

from service import JobGroup, TaskBlueprint, create_app, enqueue, get_celery
from service.errors import (
    BrokerUnavailableError,
    InvalidArgumentsError,
    JobFailedError,
    JobFinishedError,
    QueueFullError,
    ResultsUnavailableError,
    UnknownJobError,
)
from service.jobs.job import Job
from service.jobs.sending.enqueuer import Enqueuer
from service.jobs.sending.message import Accepted, Conditions
from service.parts import parts_of
from service.redis.keys import RECORD
from service.results.store import ResultStore, StoredRecord
from service.tasks.demo import find_primes, my_add
from tests.support.sample_tasks import add, total
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async, within_twice

TIMEOUT = 0.5  # of an app whose Redis is silent
impatient = pytest.mark.parametrize("app", [TIMEOUT], indirect=True, ids=["impatient"])


@pytest.fixture
async def app(request: pytest.FixtureRequest, own_valkey: Valkey) -> AsyncIterator[Quart]:
    """An app that is patient on a busy machine, or gives up after what a test asks for."""
    timeout = getattr(request, "param", 20.0)
    app = create_app(
        {
            "SERVICE_REDIS_URL": own_valkey.url,
            "SERVICE_REDIS_TIMEOUT": timeout,
            "SERVICE_ENQUEUE_TIMEOUT": timeout,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
        }
    )
    async with app.test_app(), app.app_context():
        yield app


@pytest.fixture
def enqueuer(app: Quart) -> Enqueuer:
    return parts_of(app).enqueuer


def messages(valkey: Valkey, queue: str = "celery") -> list[dict[str, Any]]:
    """What waits in a list, oldest first."""
    with valkey.client() as redis:
        texts = redis.lrange(queue, 0, -1)
    return [json.loads(text) for text in reversed(texts)]


def record(valkey: Valkey, job_id: str) -> dict[str, Any]:
    with valkey.client() as redis:
        stored = redis.get(RECORD + job_id)
    assert stored, f"no record of {job_id}"
    found: dict[str, Any] = json.loads(stored)
    return found


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what differs between any two."""
    headers, properties = message["headers"], message["properties"]
    for name in ("id", "root_id", "queued_at", "origin"):
        headers.pop(name)
    for name in ("correlation_id", "delivery_tag", "reply_to"):
        properties.pop(name)
    message["body"] = json.loads(base64.b64decode(message["body"]))
    return message


@contextmanager
def received(signal: Any, receiver: Callable[..., None]) -> Iterator[None]:
    """Have this receiver hear of the signal."""
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(TEXTS, VALUES, max_size=3))
def test_a_template_gives_the_message_that_celery_makes(
    redis_url: str, valkey: Valkey, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """Whatever the arguments are, and whoever looks on: the shortcut must not be seen."""

    async def both() -> None:
        app = create_app({"SERVICE_REDIS_URL": redis_url})

        async def anything(*args: Any, **kwargs: Any) -> None:
            """Take it."""

        from service import TaskBlueprint  # noqa: PLC0415  a task of this very app's own

        blueprint = TaskBlueprint("any")
        handle = blueprint.task(anything)
        blueprint.register(app)
        async with app.test_app(), app.app_context():
            await handle.enqueue(*args, **kwargs)  # made by Celery, as the template's model
            await handle.enqueue(*args, **kwargs)
            with received(before_task_publish, lambda **_: None):
                await handle.enqueue(*args, **kwargs)
            task = get_celery(app).tasks["any.anything"]
            await asyncio.to_thread(task.apply_async, tuple(args), kwargs)

    valkey.flush()
    asyncio.run(both())
    *ours, celerys = map(comparable, messages(valkey))
    assert len(ours) == 3
    for message in ours:
        assert message["headers"] == celerys["headers"]
        assert message == celerys


async def test_receivers_of_celerys_signals_see_and_change_each_message(
    app: Quart, own_valkey: Valkey
) -> None:
    """As those of `apply_async` do: each once, with what no other job's receiver has changed."""
    seen: list[tuple[object, ...]] = []
    after: list[str] = []
    task = get_celery(app).tasks["demo.my_add"]

    def change(sender: str, body: Any, headers: dict[str, Any], **more: Any) -> None:
        own = {k: v for k, v in headers.items() if k not in {"id", "root_id", "queued_at"}}
        named = {k: v for k, v in more["properties"].items() if k == "priority"}
        where = more["exchange"], more["routing_key"], [each.name for each in more["declare"]]
        seen.append((sender, json.dumps([body, own, named]), where, more["retry_policy"]))
        headers["tenant"] = headers["id"]
        headers["stamps"]["seen"] = True
        body[1]["b"] = 3

    def published(headers: dict[str, Any], **_: Any) -> None:
        after.append(headers["tenant"])

    with received(before_task_publish, change), received(after_task_publish, published):
        jobs = [await my_add.enqueue(1, b=2) for _ in range(3)]
        sent = await asyncio.to_thread(task.apply_async, (1,), {"b": 2})
    await my_add.enqueue(1, b=2)
    *changed, plain = messages(own_valkey)
    assert seen[1:] == seen[:1] * 3
    assert after == [each.id for each in jobs] + [sent.id]
    assert [each["headers"]["tenant"] for each in changed] == after
    assert "tenant" not in plain["headers"]
    assert not plain["headers"]["stamps"]
    *ours, celerys = map(comparable, changed)
    for message in ours:
        message["headers"]["tenant"] = celerys["headers"]["tenant"]
        assert message == celerys
    assert celerys["body"][1] == {"b": 3}
    assert comparable(plain)["body"][1] == {"b": 2}


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_receiver_may_change_how_a_message_is_sent(
    app: Quart, own_valkey: Valkey, first: bool
) -> None:
    """Then Celery's own code sends this one, and the template is the one that it would be."""

    def hurry(properties: dict[str, Any], **_: Any) -> None:
        properties["priority"] = 9

    if not first:
        await my_add.enqueue(1, 2)
    with received(before_task_publish, hurry):
        await my_add.enqueue(1, 2)
        await my_add.enqueue(1, 2)
    await my_add.enqueue(1, 2)
    assert len(messages(own_valkey, "celery\x06\x169")) == 2
    assert len(messages(own_valkey)) == (1 if first else 2)
    assert messages(own_valkey)[-1]["properties"]["priority"] == 0


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_receiver_may_take_away_a_property(
    app: Quart, own_valkey: Valkey, first: bool
) -> None:
    """The message goes without it, as Celery's own code would send it."""
    urgent = my_add.options(priority=9)

    def take_away(properties: dict[str, Any], **_: Any) -> None:
        del properties["priority"]

    if not first:
        await urgent.enqueue(1, 2)
    with received(before_task_publish, take_away):
        await urgent.enqueue(1, 2)
    assert len(messages(own_valkey)) == 1
    assert len(messages(own_valkey, "celery\x06\x169")) == (0 if first else 1)


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_receiver_may_name_the_job(app: Quart, own_valkey: Valkey, first: bool) -> None:
    """Its record is that of the id in the message, as the worker's will be."""

    def name(headers: dict[str, Any], **_: Any) -> None:
        headers["id"] = headers["root_id"] = "mine"

    if not first:
        await my_add.enqueue(1, 2)
    with received(before_task_publish, name):
        job = await my_add.enqueue(1, 2)
    assert messages(own_valkey)[-1]["headers"]["id"] == "mine"
    assert job.id == "mine"
    assert record(own_valkey, "mine")["status"] == "QUEUED"


async def test_options_give_the_message_that_celery_makes(app: Quart, own_valkey: Valkey) -> None:
    """For each of them."""
    later = datetime.now(UTC) + timedelta(hours=1)
    choices: list[dict[str, Any]] = [
        {"eta": later},
        {"expires": later},
        {"headers": {"tenant": "x"}},
        {"priority": 9},
        {"queue": "other"},
    ]
    task = get_celery(app).tasks["demo.my_add"]
    for options in choices:
        await my_add.options(**options).enqueue(1, 2)
        await asyncio.to_thread(task.apply_async, (1, 2), **options)
        queue = options.get("queue", "celery") + ("\x06\x169" if "priority" in options else "")
        ours, celerys = map(comparable, messages(own_valkey, queue))
        for message in (ours, celerys):  # Celery sends how many milliseconds are left
            message["properties"].pop("expiration", None)
        assert ours == celerys
        own_valkey.flush()
    await my_add.options(countdown=60, expires=120).enqueue(1, 2)
    (message,) = messages(own_valkey)
    eta = datetime.fromisoformat(message["headers"]["eta"])
    assert 50 < (eta - datetime.now(UTC)).total_seconds() <= 60
    assert message["headers"]["expires"]


async def test_a_job_id_makes_one_job(app: Quart, own_valkey: Valkey) -> None:
    """However often, and whoever does it at the same time."""
    again = my_add.options(job_id="mine")
    jobs = await asyncio.gather(*(again.enqueue(1, 2) for _ in range(40)))
    assert {job.id for job in jobs} == {"mine"}
    assert len(messages(own_valkey)) == 1
    assert record(own_valkey, "mine")["status"] == "QUEUED"


async def test_concurrent_jobs_share_round_trips(app: Quart, own_valkey: Valkey) -> None:
    """And each is there when its own call returns."""

    def calls() -> int:
        with own_valkey.client() as redis:
            stats = redis.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])

    await my_add.enqueue(1, 2)
    before = calls()
    jobs = await asyncio.gather(*(my_add.enqueue(n, n) for n in range(320)))
    assert calls() - before <= 20
    sent = {message["headers"]["id"] for message in messages(own_valkey)}
    assert {job.id for job in jobs} < sent


async def test_a_signature_chain_group_and_chord_are_known_in_whole(
    app: Quart, own_valkey: Valkey
) -> None:
    """From the first moment each job of a canvas can be asked for."""
    single = await enqueue(add.s(1, 2))
    last = await enqueue(chain(add.s(1, 2), add.s(3), add.s(4)))
    several = await enqueue(group(add.s(n, n) for n in range(30)))
    body = await enqueue(chord([add.s(1, 1), add.s(2, 2)], total.s()))
    assert isinstance(single, Job)
    assert isinstance(last, Job)
    assert isinstance(body, Job)
    assert isinstance(several, JobGroup)
    assert len(several.jobs) == 30
    for job in (single, last, body, *several.jobs):
        assert record(own_valkey, job.id)["status"] == "QUEUED"
    assert record(own_valkey, body.id)["name"] == "sample.total"
    assert len(messages(own_valkey)) == 1 + 1 + 30 + 2
    backend: Any = get_celery(app).backend
    assert backend.result_consumer._pubsub is None  # nothing was subscribed
    with own_valkey.client() as redis:
        assert len(redis.keys(RECORD + "*")) == 1 + 3 + 30 + 3


async def test_celerys_own_delay_leaves_a_record_and_no_subscription(
    app: Quart, own_valkey: Valkey
) -> None:
    """Nor anything else that grows."""

    def send() -> list[str]:
        ids = [my_add.delay(1, 2).id for _ in range(5)]
        together: Any = group([add.s(1, 2), add.s(3, 4)]).apply_async()
        chained: Any = chain(add.s(1, 2), add.s(3)).apply_async()
        return [*ids, *(one.id for one in together.results), chained.parent.id]

    ids = await asyncio.to_thread(send)
    for job_id in ids:
        assert record(own_valkey, job_id)["status"] == "QUEUED"
    with own_valkey.client() as redis:
        assert redis.pubsub_channels() == []
        assert all(redis.ttl(key) > 0 for key in redis.keys(RECORD + "*"))


async def test_bad_arguments_send_nothing(app: Quart, own_valkey: Valkey) -> None:
    """And say which."""
    with pytest.raises(InvalidArgumentsError) as caught:
        await my_add.enqueue(1, "2")  # type: ignore[arg-type]
    assert caught.value.argument == "b"
    with own_valkey.client() as redis:
        assert not redis.exists("celery")
        assert not redis.keys(RECORD + "*")


@pytest.mark.parametrize("database", [0, 1], ids=["Redis", "Kombu"])
async def test_what_no_json_can_be_made_of_is_told_by_task_and_argument(
    redis_url: str, valkey: Valkey, database: int
) -> None:
    """The first time and later, when there is a template; and nothing of it is sent."""
    broker = f"{redis_url.removesuffix('/0')}/{database}"
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_CELERY__BROKER_URL": broker})
    blueprint = TaskBlueprint("any")

    @blueprint.task
    async def keep(things: Any, *more: Any, **named: Any) -> None: ...

    blueprint.register(app)
    async with app.test_app(), app.app_context():
        for _ in range(2):
            for args, kwargs, name in (
                ([{1, 2}], {}, "things"),
                ([1, 2, {3}], {}, "*[2]"),
                ([1], {"x": 1, "y": [object()]}, "y"),
            ):
                with pytest.raises(InvalidArgumentsError, match=r"any\.keep.*JSON") as caught:
                    await keep.enqueue(*args, **kwargs)
                assert caught.value.argument == name
            with pytest.raises(InvalidArgumentsError, match=r"any\.keep.*JSON"):
                await enqueue(chain(my_add.si(1, 2), group(my_add.si(3, 4), keep.si({5}))))
            await keep.enqueue(1)
    with valkey.client() as redis:
        assert len(redis.keys(RECORD + "*")) == 2


async def test_a_task_that_is_sent_as_a_signature_is_told_how(app: Quart) -> None:
    """The two are easily mistaken for each other."""
    with pytest.raises(TypeError, match=r"takes a signature.*await task\.enqueue"):
        await enqueue(my_add)


async def test_a_key_gives_one_job_and_a_full_queue_none(
    enqueuer: Enqueuer, own_valkey: Valkey
) -> None:
    """Atomically: also where many come at once."""

    async def one(key: str, limit: int = 5) -> Accepted:
        conditions = Conditions(idempotency_key=key, fingerprint="f", limit=limit)
        return await enqueuer.enqueue_if("demo.my_add", (1, 2), {}, conditions)

    found = await asyncio.gather(*(one("k") for _ in range(20)))
    assert len({each.job_id for each in found}) == 1
    assert sum(each.is_new for each in found) == 1
    outcomes = await asyncio.gather(*(one("") for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, QueueFullError) for outcome in outcomes) == 16
    assert len(messages(own_valkey)) == 5
    assert (await one("k")).is_new is False
    with own_valkey.client() as redis:
        redis.delete(RECORD + found[0].job_id)
        redis.delete("celery")
    assert (await one("k")).is_new is True


async def test_one_id_is_sent_once_to_any_broker_whoever_comes_meanwhile(
    redis_url: str, valkey: Valkey
) -> None:
    """One that was left half-way is sent again: by the record nobody knows what became of it."""
    broker = f"{redis_url.removesuffix('/0')}/1"
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_CELERY__BROKER_URL": broker})
    async with app.test_app(), app.app_context():
        one = my_add.options(job_id="one")
        jobs = await asyncio.gather(*(one.enqueue(1, 2) for _ in range(8)))
        assert {job.id for job in jobs} == {"one"}
        with valkey.client() as redis, Redis.from_url(broker) as queues:
            assert queues.llen("celery") == 1
            left = json.loads(str(redis.get(RECORD + "one"))) | {"unsent": 1}
            redis.set(RECORD + "one", json.dumps(left), ex=60)
            await one.enqueue(1, 2)
            first, again = (json.loads(each) for each in queues.lrange("celery", 0, -1))
            # Workers know by it that the two are one job.
            assert first["headers"]["queued_at"] == again["headers"]["queued_at"]
            assert "unsent" not in json.loads(str(redis.get(RECORD + "one")))


async def accepted(job_id: str) -> Job[Any]:
    """Insist until a job is accepted."""

    async def enqueued() -> Job[Any] | None:
        with suppress(BrokerUnavailableError):
            job: Job[Any] = await my_add.options(job_id=job_id).enqueue(1, 2)
            return job
        return None

    job = await wait_until_async(enqueued, description=f"{job_id} is accepted")
    assert isinstance(job, Job)
    return job


@contextmanager
def turns_of_the_loop() -> Iterator[list[float]]:
    """When the event loop turned: hardly ever while something blocks it, else every 5 ms."""
    turns: list[float] = []
    loop = asyncio.get_running_loop()

    async def turn() -> None:
        while True:
            await asyncio.sleep(0.005)
            turns.append(loop.time())

    turning = asyncio.create_task(turn())
    try:
        yield turns
    finally:
        turning.cancel()


@impatient
@pytest.mark.parametrize("fault", ["refused", "silent", "read-only", "full"])
async def test_a_broker_that_cannot_take_it_is_one_error_in_time(
    app: Quart, own_valkey: Valkey, fault: str
) -> None:
    """Which says whether the job may be there, and is over when Redis is well again."""
    await accepted("warm")
    own_valkey.flush()
    if fault == "refused":
        await asyncio.to_thread(own_valkey.stop)
    elif fault == "silent":
        own_valkey.freeze()
    else:
        with own_valkey.client() as redis:
            if fault == "read-only":
                redis.replicaof("127.0.0.1", "1")
            else:
                redis.config_set("maxmemory", "1")
    began = time.monotonic()
    with turns_of_the_loop() as turns, pytest.raises(BrokerUnavailableError) as caught:
        await within_twice(TIMEOUT, my_add.options(job_id="one").enqueue(1, 2))
    assert len(turns) > 2 or time.monotonic() - began < TIMEOUT / 2
    assert caught.value.maybe_accepted == (fault == "silent")
    if fault == "refused":
        await asyncio.to_thread(own_valkey.start)
    elif fault == "silent":
        own_valkey.thaw()
    else:
        with own_valkey.client() as redis:
            redis.replicaof("NO", "ONE")
            redis.config_set("maxmemory", "0")
    await accepted("one")
    assert [message["headers"]["id"] for message in messages(own_valkey)] == ["one"]


async def test_a_demoted_server_is_left_for_whatever_its_address_leads_to_now(
    app: Quart, own_valkey: Valkey
) -> None:
    """The next job is sent on a new connection."""
    await my_add.enqueue(1, 2)
    with own_valkey.client() as redis:
        (sender,) = [each["id"] for each in redis.client_list() if each["cmd"].startswith("eval")]
        redis.replicaof("127.0.0.1", "1")
        with pytest.raises(BrokerUnavailableError):
            await my_add.enqueue(1, 2)
        await wait_until_async(
            lambda: sender not in [each["id"] for each in redis.client_list()],
            description="the connection's end",
        )


@pytest.mark.leaves("keys", reason="a queue's name that is no list")
async def test_a_job_that_its_queue_refuses_takes_no_other_along(
    app: Quart, own_valkey: Valkey
) -> None:
    """Nothing is left of it, so that it can be enqueued again under its id."""
    with own_valkey.client() as redis:
        redis.set("other", "no list", ex=60)
        refused = my_add.options(job_id="refused", queue="other")
        first, error, last = await asyncio.gather(
            my_add.enqueue(1, 2),
            refused.enqueue(1, 2),
            my_add.enqueue(3, 4),
            return_exceptions=True,
        )
        assert isinstance(error, BrokerUnavailableError)
        assert not error.maybe_accepted
        assert redis.llen("celery") == 2
        assert {type(first), type(last)} == {Job}
        assert not redis.exists(RECORD + "refused")
        await my_add.options(job_id="refused").enqueue(1, 2)
        assert redis.llen("celery") == 3


async def test_restarts_in_the_middle_lose_and_double_nothing(
    app: Quart, own_valkey: Valkey
) -> None:
    """An id whose call returned has its job; one that was tried again has it once."""
    known: list[str] = []

    async def client(number: int) -> None:
        for turn in range(60):
            job_id = f"{number}-{turn}"
            await accepted(job_id)
            known.append(job_id)

    clients = [asyncio.create_task(client(number)) for number in range(8)]
    for goal in (40, 160):
        await wait_until_async(lambda goal=goal: len(known) > goal, description="some jobs")  # type: ignore[misc]
        await asyncio.to_thread(own_valkey.restart)
    await asyncio.gather(*clients)
    sent = [message["headers"]["id"] for message in messages(own_valkey)]
    assert sorted(sent) == sorted(known)


async def test_a_caller_that_goes_away_takes_its_unsent_job_along(
    app: Quart, own_valkey: Valkey
) -> None:
    """And nothing of it stays behind in the process."""
    await my_add.enqueue(1, 2)
    own_valkey.freeze()
    calls = [asyncio.create_task(find_primes.enqueue(10)) for _ in range(100)]
    await asyncio.wait(calls, timeout=0.05)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    own_valkey.thaw()
    await my_add.enqueue(1, 2)
    assert len(messages(own_valkey)) <= 2 + 64


async def test_a_job_is_cancelled_by_its_handle(app: Quart, own_valkey: Valkey) -> None:
    """One of a canvas, too; what has ended, or is not known any more, is told."""
    single, canvas = await my_add.enqueue(1, 2), await enqueue(group(my_add.s(1, 2)))
    assert isinstance(canvas, JobGroup)
    first = canvas.jobs[0]
    assert isinstance(first, Job)
    for job in (single, first):
        await job.cancel()
        with pytest.raises(JobFailedError, match="REVOKED"):
            await job.result()
        assert record(own_valkey, job.id)["status"] == "REVOKED"
        with pytest.raises(JobFinishedError):
            await job.cancel()
    with own_valkey.client() as redis:
        redis.delete(RECORD + single.id)
    with pytest.raises(UnknownJobError):
        await single.cancel()


class OvertakenStore(ResultStore):
    """Has a worker write progress between the first two calls, as it may."""

    is_overtaken = False

    async def replace(self, record: StoredRecord, data: bytes) -> bool:
        if not self.is_overtaken:
            self.is_overtaken = True
            await self._client.set(RECORD + record.job_id, record.data + b" ", keepttl=True)
        return await super().replace(record, data)


@pytest.mark.parametrize("by", ["ada", None])
async def test_a_cancellation_is_noted_though_a_worker_writes_the_record_meanwhile(
    app: Quart, own_valkey: Valkey, by: str | None
) -> None:
    """Else it would run again if its worker died now."""
    job, parts = await my_add.enqueue(1, 2), parts_of(app)
    with own_valkey.client() as redis:
        started = json.dumps({**record(own_valkey, job.id), "status": "STARTED"})
        redis.set(RECORD + job.id, started, keepttl=True)
    store = OvertakenStore(parts.redis, parts.keys, timeout=20)
    clients = parts.redis, parts.broker_redis
    enqueuer = Enqueuer(parts.celery, store, parts.watcher, *clients)
    assert (await enqueuer.cancel(job.id, by=by)).state == "STARTED"
    await enqueuer.aclose()
    assert record(own_valkey, job.id)["cancelled_by"] == by
    with own_valkey.client() as redis:
        assert redis.ttl(RECORD + job.id) > 86_400


@impatient
async def test_a_cancellation_that_redis_does_not_answer_is_an_error(
    app: Quart, own_valkey: Valkey
) -> None:
    """In time, and not for ever."""
    job = await accepted("one")
    own_valkey.freeze()
    with pytest.raises(ResultsUnavailableError):
        await job.cancel()
    own_valkey.thaw()


async def test_a_waiting_job_says_its_tags(app: Quart, own_valkey: Valkey) -> None:
    """In its record, its message, and to those who hear of jobs; there are few short ones."""
    heard: dict[str, tuple[str, ...]] = {}
    parts_of(app).signals.job_changed.connect(lambda event: heard.update({event.id: event.tags}))
    job = await my_add.options(tags=["import", "ada", "import"], headers={"x": 1}).enqueue(1, 2)
    (message,) = messages(own_valkey)
    assert record(own_valkey, job.id)["tags"] == message["headers"]["tags"] == ["import", "ada"]
    assert (message["headers"]["x"], heard[job.id]) == (1, ("import", "ada"))
    odd: Any
    for odd in ("import", [""], ["x" * 51], ["a\nb"], [7], 7, [str(n) for n in range(11)]):
        with pytest.raises(ValueError, match="tags"):
            my_add.options(tags=odd)
    for odd in ("import", [7, "kept", "x" * 51], {"a": 1}):
        celery_task = get_celery(app).tasks[my_add.name]
        sent = await asyncio.to_thread(
            lambda: celery_task.apply_async((1, 2), headers={"tags": odd})  # noqa: B023
        )
        found = record(own_valkey, sent.id).get("tags", [])
        assert found == (["kept"] if isinstance(odd, list) else [])


async def test_a_waiting_job_says_its_queue(app: Quart, own_valkey: Valkey) -> None:
    """However it was sent: in its record, and to those who hear of jobs."""
    heard: dict[str, str | None] = {}
    parts_of(app).signals.job_changed.connect(lambda event: heard.update({event.id: event.queue}))
    celery = get_celery(app)
    conditions = Conditions(idempotency_key="one", fingerprint="x")
    one, two = await enqueue(chain(add.s(1, 2), add.s(3))), await my_add.enqueue(1, 2)
    assert isinstance(one, Job)
    sent = {
        (await my_add.options(queue="slow").enqueue(1, 2)).id: "slow",
        (await my_add.options(headers={"x": 1}).enqueue(1, 2)).id: "celery",
        (await my_add.options(queue="slow", priority=3).enqueue(1, 2)).id: "slow",
        (await parts_of(app).enqueuer.enqueue_if(my_add.name, (1, 2), {}, conditions)).job_id: (
            "celery"
        ),
        two.id: "celery",
        (await asyncio.to_thread(celery.tasks[my_add.name].delay, 1, 2)).id: "celery",
        (
            await asyncio.to_thread(
                lambda: celery.tasks[my_add.name].apply_async((1, 2), queue="slow")
            )
        ).id: "slow",
    }
    for job_id, queue in sent.items():
        assert (record(own_valkey, job_id)["queue"], heard[job_id]) == (queue, queue)
    (first,) = (job_id for job_id in heard if job_id not in sent)
    assert (record(own_valkey, first)["queue"], heard[first]) == ("celery", "celery")


async def test_no_caller_is_left_waiting_when_the_app_ends(app: Quart, own_valkey: Valkey) -> None:
    """Also none whose job was to go with a later batch: two are on their way to a silent Redis."""
    await my_add.enqueue(1, 2)
    enqueuer = parts_of(app).enqueuer
    own_valkey.freeze()
    jobs = [asyncio.create_task(my_add.enqueue(1, 2)) for _ in range(100)]
    waiting = enqueuer._writer._batcher._waiting
    await wait_until_async(lambda: len(waiting) == 36, description="most are on their way")
    await enqueuer.aclose()
    done, left = await asyncio.wait(jobs, timeout=10)  # half of what each may take
    own_valkey.thaw()
    errors = [task.exception() for task in done]
    assert not left
    assert sum("the server is stopping" in str(error) for error in errors) == 100
