"""The `service` command is one of the app's own, too."""

import os
import subprocess
import sys

import pytest
from redis import Redis

from tests.support.dead import DEAD, dead_letter
from tests.support.process import ROOT


def quart(*arguments: str, redis_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quart", "--app", "asgi", *arguments],
        env={**os.environ, "SERVICE_REDIS_URL": redis_url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_quart_lists_the_dead_letters_of_its_app(redis_url: str) -> None:
    """Whoever runs a Quart app looks for its commands there."""
    with Redis.from_url(redis_url) as redis:
        redis.lpush(DEAD, dead_letter("job", "a.task", []))
    listed = quart("service", "dead-letters", "list", redis_url=redis_url)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("job  celery  a.task")


@pytest.mark.parametrize("command", [["show", "none"], ["replay"]])
def test_it_ends_with_the_same_codes(redis_url: str, command: list[str]) -> None:
    """1 for what cannot be done, 2 for what cannot be understood, and never a traceback."""
    ended = quart("service", "dead-letters", *command, redis_url=redis_url)
    assert ended.returncode == {"show": 1, "replay": 2}[command[0]]
    assert "Traceback" not in ended.stderr
