"""`service dead-letters` lets a person see, replay and drop what was given up on."""

import json
import os
import pwd
import subprocess
import sys
import time
from typing import Any

import pytest
from celery import Celery
from quart import Quart
from redis import Redis

from service import create_app
from service.testing import JobRunner
from tests.support.dead import DEAD, dead_letter, dead_letters_command
from tests.support.process import ROOT
from tests.support.valkey import Valkey


@pytest.fixture
def jobs_app() -> Quart:
    return create_app()


async def test_dead_letters_are_listed_shown_replayed_and_dropped(
    jobs: JobRunner, jobs_redis_url: str
) -> None:
    """A message that is not JSON, and a job of a task that no worker knows."""
    began = time.time()
    redis_url = jobs_redis_url
    job = Celery("stock", broker=redis_url, set_as_current=False).send_task("no.such")
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        redis.lpush("celery", "not json")
        await jobs.drain(raises=False)
        assert redis.llen("celery.dead") == 2
        listed = dead_letters_command("list", redis_url=redis_url).stdout
        assert job.id in listed
        assert "no.such" in listed
        assert "(unreadable)" in listed
        shown = dead_letters_command("show", job.id, redis_url=redis_url).stdout
        assert "No task of this worker is named 'no.such'" in shown
        assert dead_letters_command("replay", job.id, redis_url=redis_url).stdout == "1 replayed.\n"
        assert redis.llen("celery") == 1
        assert '"QUEUED"' in str(redis.get(f"celery-task-meta-{job.id}"))
        missing = dead_letters_command("show", job.id, redis_url=redis_url)
        assert missing.returncode == 1
        assert "There is no dead letter" in missing.stderr
        assert dead_letters_command("drop", "--all", redis_url=redis_url).stdout == "1 dropped.\n"
        assert dead_letters_command("list", redis_url=redis_url).stdout == ""
        entries: Any = redis.xrange("service:audit")
    lines = [json.loads(fields["line"]) for _, fields in entries]
    user = pwd.getpwuid(os.getuid()).pw_name
    assert [(line["who"], line["act"], line["address"]) for line in lines] == [
        (user, "replay", "the command line"),
        (user, "drop", "the command line"),
    ]
    assert lines[0]["what"] == f"dead letter {job.id}"
    assert began < lines[0]["at"] < lines[1]["at"] < time.time()


def test_the_options_and_the_redis_of_the_broker_are_heeded(redis_url: str) -> None:
    """The message goes to the list that its priority has there, the record to the results."""
    broker_url = redis_url.replace("/0", "/1")
    letter = json.loads(dead_letter("job", "a.task", []))
    message = json.loads(letter["message"])
    message["properties"]["priority"] = 7
    letter["message"] = json.dumps(message)
    options = {"priority_steps": [0, 5], "sep": ":"}
    with Redis.from_url(broker_url) as broker, Redis.from_url(redis_url) as results:
        broker.lpush(DEAD, json.dumps(letter))
        replayed = dead_letters_command(
            "replay",
            "job",
            redis_url=redis_url,
            SERVICE_CELERY__BROKER_URL=broker_url,
            SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS=json.dumps(options),
        )
        assert replayed.stdout == "1 replayed.\n"
        assert broker.keys() == [b"celery:5"]
        assert '"QUEUED"' in str(results.get("celery-task-meta-job"))


def test_redis_away_is_told_in_a_sentence() -> None:
    """Not as a traceback."""
    away = dead_letters_command("list", redis_url="redis://127.0.0.1:1/0")
    assert away.returncode == 1
    assert away.stderr.startswith("service: Redis is not available")


def test_who_reads_may_stop_in_the_middle(valkey: Valkey, redis_url: str) -> None:
    """`service dead-letters list | head` is no outage of Redis."""
    with valkey.client() as redis:
        redis.rpush(DEAD, *(dead_letter(f"job-{n}", "a.task", []) for n in range(2000)))
    with subprocess.Popen(
        [sys.executable, "-m", "service", "dead-letters", "list"],
        env={**os.environ, "SERVICE_REDIS_URL": redis_url},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.readline()
        listing.stdout.close()
        assert listing.stderr.read() == b""
        assert listing.wait(20) == 0
