"""The commands work for the app of the folder that they are run in."""

import sys
from pathlib import Path

import pytest
from redis import Redis

from tests.support.dead import DEAD, dead_letter
from tests.support.process import Process

_WORKER = """
from service import create_app, get_celery
app = get_celery(create_app({"SERVICE_REDIS_URL": "%s"}))
"""


def service(folder: Path, *arguments: str) -> Process:
    return Process([sys.executable, "-m", "service", *arguments], cwd=folder)


def test_the_app_is_that_of_the_folders_worker(tmp_path: Path, redis_url: str) -> None:
    """Its code has the Redis of that app; the environment does not name it."""
    (tmp_path / "asgi.py").touch()
    (tmp_path / "worker_entry.py").write_text(_WORKER % redis_url)
    with Redis.from_url(redis_url) as redis:
        redis.lpush(DEAD, dead_letter("job", "a.task", []))
    with service(tmp_path, "dead-letters", "list") as process:
        assert process.wait() == 0, process.output
        assert process.output.startswith("job  celery  a.task")


def test_half_of_an_app_is_refused(tmp_path: Path) -> None:
    """The other half would be this package's own: jobs that no worker knows."""
    (tmp_path / "asgi.py").touch()
    with service(tmp_path, "dev") as process:
        assert process.wait() == 1
        assert process.output.startswith("service: This folder has asgi.py but no worker_entry.py.")


def test_a_worker_of_another_kind_is_refused(tmp_path: Path) -> None:
    """With what to write instead."""
    (tmp_path / "asgi.py").touch()
    (tmp_path / "worker_entry.py").write_text("from celery import Celery\napp = Celery()\n")
    with service(tmp_path, "dead-letters", "list") as process:
        assert process.wait() == 1
        assert "get_celery" in process.output
        assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import shoop", "worker_entry.py cannot be imported: No module named 'shoop'."),
        ("x = 1\ndef f(:", r"worker_entry.py, line 2, is not Python: invalid syntax."),
    ],
)
def test_a_worker_that_cannot_be_imported_is_told_in_a_sentence(
    tmp_path: Path, code: str, complaint: str
) -> None:
    """A newcomer's first mistakes: a traceback of ours would bury them."""
    (tmp_path / "asgi.py").touch()
    (tmp_path / "worker_entry.py").write_text(code)
    with service(tmp_path, "tasks") as process:
        assert process.wait() == 1
        assert complaint in process.output
        assert "Traceback" not in process.output
