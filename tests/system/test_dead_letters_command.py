"""`service dead-letters` lets a person see, replay and drop what was given up on."""

import os
import subprocess
import sys
from pathlib import Path

from celery import Celery

from tests.support.process import ROOT
from tests.support.valkey import Valkey
from tests.support.wait import wait_until
from tests.support.workers import worker_process


def service(*arguments: str, redis_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "dead-letters", *arguments],
        env={**os.environ, "SERVICE_REDIS_URL": redis_url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_dead_letters_are_listed_shown_replayed_and_dropped(
    valkey: Valkey, redis_url: str, tmp_path: Path
) -> None:
    """A message that is not JSON, and a job of a task that no worker knows."""
    job = Celery("stock", broker=redis_url, set_as_current=False).send_task("no.such")
    with valkey.client() as redis:
        redis.lpush("celery", "not json")
        with worker_process("asyncio", redis_url, tmp_path) as worker:
            worker.wait_for_output(r"ready\.")
            wait_until(lambda: redis.llen("celery.dead") == 2, description="both are dead")
            worker.stop()
        listed = service("list", redis_url=redis_url).stdout
        assert job.id in listed
        assert "no.such" in listed
        assert "(unreadable)" in listed
        shown = service("show", job.id, redis_url=redis_url).stdout
        assert "No task of this worker is named 'no.such'" in shown
        assert service("replay", job.id, redis_url=redis_url).stdout == "1 replayed.\n"
        assert redis.llen("celery") == 1
        assert '"QUEUED"' in str(redis.get(f"celery-task-meta-{job.id}"))
        missing = service("show", job.id, redis_url=redis_url)
        assert missing.returncode == 1
        assert "There is no dead letter" in missing.stderr
        assert service("drop", "--all", redis_url=redis_url).stdout == "1 dropped.\n"
        assert service("list", redis_url=redis_url).stdout == ""


def test_redis_away_is_told_in_a_sentence() -> None:
    """Not as a traceback."""
    away = service("list", redis_url="redis://127.0.0.1:1/0")
    assert away.returncode == 1
    assert away.stderr.startswith("service: Redis is not available")
