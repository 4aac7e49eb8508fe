"""Of a paused queue or task no worker begins a job, and all do as soon as it is resumed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from quart.cli import ScriptInfo
from redis import Redis

from service import create_app, get_celery
from service.broker.pauses import (
    MAX_PAUSED_TASKS,
    Kind,
    pause,
    read_paused_lists,
    resume,
)
from service.broker.scripts import QueueList, Scripts, Take, Taken
from service.cli.main import service
from service.parts import parts_of
from service.redis.keys import RECORD, BrokerKeys
from service.tasks.demo import my_add
from tests.support.records import let_be_due
from tests.support.sample_tasks import leave_note, retry_once
from tests.support.serving import serving_app
from tests.support.site import TOKEN
from tests.support.wait import wait_until_async
from tests.support.workers import Worker, worker_process

KEYS = BrokerKeys()


@pytest.fixture(name="redis")
def _redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def message(tag: str, task: str = "t", **fields: object) -> str:
    headers = {"task": task, "id": tag}
    return json.dumps({"headers": headers, "properties": {"delivery_tag": tag}, **fields})


def tags(taken: Taken) -> list[str]:
    return [delivery.ident for delivery in taken.deliveries]


def take(redis: Redis) -> Taken:
    lists = tuple(QueueList(name, name) for name in ("one", "two"))
    return Scripts(redis, KEYS).take(Take(KEYS, lists, 10, 0, 30.0, waiter="w"))


def test_nothing_is_taken_from_a_paused_queue(redis: Redis) -> None:
    """Not what is due, either; and nobody asks again at once for what is there."""
    redis.lpush("one", message("1"))
    redis.lpush("two", message("2"))
    redis.zadd("one.scheduled", {message("due"): 1.0})
    redis.hset(KEYS.paused_queues, "one", "whatever stands here")
    assert [delivery.ident for delivery in take(redis).deliveries] == ["2"]
    assert not list(redis.scan_iter("unacked_waiting:*:wake"))
    waiting = take(redis)
    assert (waiting.verdict, waiting.deliveries, waiting.next_due) == ("active", (), None)
    redis.hdel(KEYS.paused_queues, "one")
    assert {delivery.ident for delivery in take(redis).deliveries} == {"1", "due"}


def test_the_jobs_of_a_paused_task_wait_and_others_are_taken(redis: Redis) -> None:
    """In whatever list; once it is resumed they are taken first, in their old order."""
    for tag in ("a", "b"):
        redis.lpush("one", message(f"{tag}1", "bad"), message(f"{tag}2", "good"))
    redis.lpush("two", message("c1", "bad"))
    redis.zadd("two.scheduled", {message("due", "bad"): 1.0})
    redis.hset(KEYS.paused_tasks, "bad", "whatever stands here")
    assert tags(take(redis)) == ["a2", "b2"]
    assert redis.llen(KEYS.list_of_paused("one", "bad")) == 2
    assert (take(redis).verdict, redis.exists("one", "two", "two.scheduled")) == ("active", 0)
    redis.lpush("one", message("late", "bad"), message("last", "good"))
    redis.hdel(KEYS.paused_tasks, "bad")
    assert tags(take(redis)) == ["a1", "b1", "late", "last", "due", "c1"]
    assert not redis.exists(KEYS.paused_lists)


def test_of_two_paused_tasks_one_is_resumed(redis: Redis) -> None:
    """Their names are no patterns; and a paused queue keeps what it has of a task."""
    for task in ("a", "a:b", "a*"):
        redis.lpush("one", message(task, task))
        redis.hset(KEYS.paused_tasks, task, "{}")
    assert tags(take(redis)) == []
    redis.hset(KEYS.paused_queues, "one", "{}")
    redis.hdel(KEYS.paused_tasks, "a:b")
    assert tags(take(redis)) == []
    redis.delete(KEYS.paused_queues)
    assert tags(take(redis)) == ["a:b"]
    assert tags(take(redis)) == []
    assert redis.hlen(KEYS.paused_lists) == 2


def test_names_with_colons_are_told_apart(redis: Redis) -> None:
    """Task `b:c` of queue `a` is not task `c` of queue `a:b`."""
    lists = tuple(QueueList(name, name) for name in ("a", "a:b"))
    redis.hset(KEYS.paused_tasks, mapping={"b:c": "{}", "c": "{}"})
    redis.lpush("a", message("in-a", "b:c"))
    redis.lpush("a:b", message("in-a:b", "c"))
    request = Take(KEYS, lists, 10, 0, 30.0)
    assert tags(Scripts(redis, KEYS).take(request)) == []
    redis.hdel(KEYS.paused_tasks, "c")
    assert tags(Scripts(redis, KEYS).take(request)) == ["in-a:b"]
    stored: Any = redis.hgetall(KEYS.paused_lists)
    assert [(e.beside, e.task) for e in read_paused_lists(KEYS, stored)] == [("a", "b:c")]


@pytest.mark.parametrize("odd", ['"\\ud800"', "[" * 1200 + "]" * 1200], ids=["text", "depth"])
def test_what_the_script_cannot_decode_is_paused_too(redis: Redis, odd: str) -> None:
    """It reads the task from the text."""
    bad, good = (message(task, task)[:-1] + f', "odd": {odd}}}' for task in ("bad", "good"))
    redis.hset(KEYS.paused_tasks, "bad", "{}")
    redis.lpush("one", bad, good)
    assert tags(take(redis)) == ["good"]
    redis.hdel(KEYS.paused_tasks, "bad")
    assert tags(take(redis)) == ["bad"]


def test_a_long_row_of_a_paused_task_is_passed_in_steps(redis: Redis) -> None:
    """One that moved all of it at once would hold up Redis. Each asks again at once."""
    redis.lpush("one", *(message(str(n), "bad") for n in range(250)), message("last", "good"))
    redis.hset(KEYS.paused_tasks, "bad", "{}")
    assert [(tags(taken), taken.verdict) for taken in (take(redis), take(redis), take(redis))] == [
        ([], "taken"),
        ([], "taken"),
        (["last"], "taken"),
    ]
    redis.hdel(KEYS.paused_tasks, "bad")
    back = [tag for _ in range(25) for tag in tags(take(redis))]
    assert back == [str(n) for n in range(250)]
    big = message("big", "bad", padding="x" * 3_000_000)
    redis.lpush("one", big, big, message("last", "good"))
    redis.hset(KEYS.paused_tasks, "bad", "{}")
    assert (take(redis).verdict, tags(take(redis))) == ("taken", ["last"])


def test_a_message_that_is_scheduled_is_due_when_its_task_is_resumed(redis: Redis) -> None:
    """Though it waited elsewhere meanwhile: its worker is not to wait for its time again."""
    redis.lpush("one", message("due", "bad", due=1.0), message("later", "bad", due=9e9))
    redis.lpush("one", message("now", "bad"))
    redis.zadd("one.scheduled", {message("hastened", "bad", due=9e9): 0.0})
    redis.hset(KEYS.paused_tasks, "bad", "{}")
    assert tags(take(redis)) == []
    assert redis.zcard("one.scheduled") == 1
    redis.hdel(KEYS.paused_tasks, "bad")
    found = {delivery.ident: delivery.is_due for delivery in take(redis).deliveries}
    assert found == {"hastened": True, "due": True, "now": False}


def test_it_is_paused_and_resumed_from_the_command_line(redis: Redis, redis_url: str) -> None:
    """With the reason, and a line in the audit for each."""
    info = ScriptInfo(create_app=lambda *_: create_app({"SERVICE_REDIS_URL": redis_url}))

    def run(*arguments: str) -> str:
        return CliRunner().invoke(service, arguments, obj=info).output

    unknown = "No queue of the configuration has this name.\n"
    assert run("pause", "mails", "--why", "the relay is down") == f"mails is paused.\n{unknown}"
    stored = redis.hget(KEYS.paused_queues, "mails")
    assert b"the relay is down" in (stored or b"")
    assert run("resume", "mails") == "mails is resumed.\n"
    assert run("resume", "mails") == "mails was not paused.\n"
    assert run("pause", "celery") == "celery is paused.\n"
    assert run("resume", "celery") == "celery is resumed.\n"
    assert run("pause", "--task", "demo.my_add", "--why", "odd") == "demo.my_add is paused.\n"
    assert b"odd" in (redis.hget(KEYS.paused_tasks, "demo.my_add") or b"")
    assert run("resume", "--task", "demo.my_add") == "demo.my_add is resumed.\n"
    assert run("pause", "--task", "a") == "a is paused.\nThis app has no task of this name.\n"
    assert run("resume", "--task", "a") == "a is resumed.\n"
    for wrong in (("pause",), ("resume", "mails", "--task", "a"), ("pause", "")):
        assert "Name one queue, or one task with --task." in run(*wrong)
    assert not redis.exists(KEYS.paused_queues, KEYS.paused_tasks)
    many: Any = {f"task {number}": "{}" for number in range(MAX_PAUSED_TASKS)}
    redis.hset(KEYS.paused_tasks, mapping=many)
    assert "Resume some" in run("pause", "--task", "a")
    assert run("pause", "--task", "task 1").startswith("task 1 is paused.\n")
    redis.delete(KEYS.paused_tasks)
    audit = str(redis.xrange("service:audit"))
    assert "queue mails: the relay is down" in audit
    assert "task demo.my_add: odd" in audit


def test_nothing_is_paused_on_another_broker(redis: Redis, redis_url: str) -> None:
    """Its workers would never hear of it."""
    settings = {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_CELERY__BROKER_URL": "amqp://guest@127.0.0.1:1//",
    }
    info = ScriptInfo(create_app=lambda *_: create_app(settings))
    for arguments in (["pause", "mails"], ["resume", "--task", "a"]):
        result = CliRunner().invoke(service, arguments, obj=info)
        assert result.exit_code == 1
        assert "only where the broker is a Redis" in result.output
    assert not redis.exists(KEYS.paused_queues, "service:audit")


@pytest.mark.parametrize(
    "setting",
    [
        {"BROKER_TRANSPORT": "kombu.transport.redis:Transport"},
        {"BROKER_URL": "amqp://guest@127.0.0.1:1//"},
        {"BROKER_URL": "memory://"},
    ],
    ids=["Celery's own transport", "no RabbitMQ", "memory"],
)
async def test_the_dashboard_refuses_it_there_too(redis_url: str, setting: dict[str, str]) -> None:
    """In words, as a conflict; there is no form, and all else is shown, also what is unknown."""
    settings = {"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN}
    app = create_app({**settings, **{f"SERVICE_CELERY__{key}": setting[key] for key in setting}})
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
    pages = ("/dashboard/tasks?task=demo.my_add", "/dashboard/queues?queue=celery")
    async with app.test_app():
        client = app.test_client()
        shown = await client.get("/dashboard", headers=headers)
        assert shown.status_code == 200
        for page in pages:
            text = await (await client.get(page, headers=headers)).get_data(as_text=True)
            assert "only where the broker is a Redis" in text
            assert "Pause it" not in text
            headers["Accept"] = "application/json"
            answer = await client.post(page, form={"act": "pause"}, headers=headers)
            assert answer.status_code == 409
            assert "only where the broker is a Redis" in (await answer.get_json())["detail"]
            headers["Accept"] = "text/html"


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_a_worker_that_waits_begins_when_the_queue_is_resumed(shared_worker: Worker) -> None:
    """Nobody restarts it."""
    async with serving_app(shared_worker, "tests.support.sample_tasks"):
        with Redis.from_url(shared_worker.redis_url) as redis:
            redis.hset(KEYS.paused_queues, "celery", "{}")
            job = await my_add.enqueue(1, 2)
            seconds, micros = redis.time()
            enqueued_at = seconds + micros / 1e6

            def has_looked() -> bool:
                found = [
                    score
                    for doors in redis.scan_iter("unacked_waiting:*:doors")
                    for _, score in redis.zrange(doors, 0, -1, withscores=True)
                ]
                return bool(max(found, default=0.0) > enqueued_at)

            await wait_until_async(has_looked, timeout=30, description="a worker has looked")
            assert b'"QUEUED"' in (redis.get(f"{RECORD}{job.id}") or b"")
            redis.hdel(KEYS.paused_queues, "celery")
            assert await job.result(timeout=30) == 3


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_two_workers_leave_a_paused_task_alone_until_it_is_resumed(
    shared_worker: Worker, tmp_path: Path
) -> None:
    """Also its retries and scheduled jobs; jobs of other tasks run meanwhile."""
    url = shared_worker.redis_url
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        celery, client = get_celery(app).conf, parts_of(app).broker_redis
        with Redis.from_url(url) as redis, worker_process("asyncio", url, tmp_path) as second:
            retried = await retry_once.enqueue("a retry", 600)
            await wait_until_async(
                lambda: "a retry 0" in shared_worker.notes, timeout=30, description="it began"
            )
            for task in (leave_note, retry_once):
                await pause(client, celery, Kind.TASK, task.name, by="ada")
            second.wait_for_output(r"ready\.")
            before = [retried]
            let_be_due(redis)
            before += [await leave_note.enqueue(f"paused {n}") for n in range(40)]
            before.append(await leave_note.options(priority=9).enqueue("paused 40"))
            before.append(await leave_note.options(countdown=0.1).enqueue("paused 41"))
            assert [await (await my_add.enqueue(n, 1)).result(timeout=30) for n in range(20)]

            def paused() -> int:
                lists: Any = redis.scan_iter("unacked_paused:*")
                return sum(redis.llen(key) for key in lists)

            await wait_until_async(lambda: paused() == 43, timeout=30, description="all wait")
            notes = Worker("asyncio", second, url, tmp_path)
            noted = [*shared_worker.notes, *notes.notes]
            assert not [line for line in noted if line.startswith(("paused ", "a retry 1"))]
            for task in (leave_note, retry_once):
                assert await resume(client, celery, Kind.TASK, task.name)
            for job in before:
                await job.result(timeout=30)
            await wait_until_async(
                lambda: not redis.exists(KEYS.paused_lists), timeout=30, description="all are taken"
            )
            assert second.stop() == 0
