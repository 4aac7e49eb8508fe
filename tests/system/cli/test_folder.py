"""The commands work for the app of the folder that they are run in."""

import sys
from pathlib import Path

import pytest
from redis import Redis

from tests.support.dead import DEAD, dead_letter
from tests.support.process import ROOT, Process

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


_IMPORTS_WEB = (
    "from asgi import app as web\nfrom service import get_celery\napp = get_celery(web)\n"
)
_IMPORTS_NONE = "from service import create_app, get_celery\napp = get_celery(create_app())\n"


@pytest.mark.parametrize(
    ("web", "worker", "complaint"),
    [
        ("", "import shoop", "worker_entry.py, line 1, imports what is not there: No module named"),
        ("", "x = 1\ndef f(:", "worker_entry.py, line 2, is not Python: invalid syntax.\n"),
        ("import shoop", _IMPORTS_WEB, "asgi.py, line 1, imports what is not there: No module"),
        ("from re import x", _IMPORTS_NONE, "asgi.py, line 1, imports what is not there: cannot"),
        ("def f(:", _IMPORTS_NONE, "asgi.py, line 1, is not Python: invalid syntax.\n"),
        ("import json\njson.loads('{')", _IMPORTS_WEB, "asgi.py, line 2, cannot be run: json."),
        ("application = 1", _IMPORTS_NONE, "asgi.py has no `app`, which Hypercorn serves.\n"),
    ],
)
def test_a_mistake_in_the_entry_points_is_one_error(
    tmp_path: Path, web: str, worker: str, complaint: str
) -> None:
    """A newcomer's first mistakes: a traceback of ours would bury them."""
    (tmp_path / "asgi.py").write_text(web)
    (tmp_path / "worker_entry.py").write_text(worker)
    with service(tmp_path, "dev", "--bind", "127.0.0.1:0") as process:
        assert process.wait() == 1
        assert process.output.startswith(f"service: {complaint}")
        assert "Traceback" not in process.output
        assert str(ROOT / "service") not in process.output
