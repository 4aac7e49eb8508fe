"""The pytest plugin, in tests that run in a process of their own."""

import subprocess
import sys
from pathlib import Path

from tests.support.process import ROOT
from tests.support.pytest_run import pytest_in

_APP = """
from quart import Quart
from service import Jobs, TaskBlueprint

tasks = TaskBlueprint("plugged")


@tasks.task
async def double(n: int) -> int:
    return 2 * n


@tasks.task
async def fail() -> None:
    raise LookupError("the line of the body")


jobs = Jobs(tasks=[tasks])


def create_app() -> Quart:
    app = Quart("plugged")
    jobs.init_app(app)
    return app
"""
_TESTS = """
import asyncio
import gc
import pytest
from plugged import double, fail
from service.testing import JobRunner


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_under_anyio(jobs):
    assert await jobs.run(double, 2) == 4


@pytest.mark.asyncio
async def test_in_strict_mode(jobs):
    assert await jobs.run(double, 2) == 4


@pytest.mark.asyncio(loop_scope="module")
async def test_on_the_loop_of_the_module(jobs):
    assert await jobs.run(double, 3) == 6


@pytest.mark.asyncio
async def test_that_fails(jobs):
    job = await fail.enqueue()
    await jobs.drain(raises=False)
    assert await double.enqueue(1) is None


def test_that_pytest_keeps_no_app_of_tests_that_have_ended():
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is JobRunner]
"""


def test_the_plugin(tmp_path: Path) -> None:
    """Under pytest-asyncio, also strict and on other loops, and anyio; failed jobs are shown."""
    (tmp_path / "plugged.py").write_text(_APP)
    (tmp_path / "pytest.ini").write_text("[pytest]\njobs_app = plugged:create_app\n")
    (tmp_path / "test_it.py").write_text(_TESTS)
    run = pytest_in(tmp_path)
    assert "1 failed, 4 passed" in run.stdout, run.stdout
    assert "jobs that failed" in run.stdout
    assert 'raise LookupError("the line of the body")' in run.stdout


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """In a sentence that says what to do: the app, another Redis than the tests', the server."""
    (tmp_path / "plugged.py").write_text(_APP)
    (tmp_path / "test_it.py").write_text(
        "import os, pytest, plugged\n"
        "@pytest.fixture(params=['none', 'other'])\n"
        "def jobs_app(request):\n"
        "    if request.param == 'none':\n"
        "        return request.getfixturevalue('default_app')\n"
        "    os.environ['SERVICE_REDIS_URL'] = 'redis://127.0.0.1:1/0'\n"
        "    return plugged.create_app()\n"
        "@pytest.fixture\n"
        "def default_app(request):\n"
        "    from service.testing import plugin\n"
        "    return plugin.jobs_app.__wrapped__(request)\n"
        "async def test_it(jobs): ...\n"
    )
    run = pytest_in(tmp_path, "-o", "asyncio_mode=auto")
    assert "Write `jobs_app = " in run.stdout, run.stdout
    assert "uses another Redis than the tests'" in run.stdout
    run = pytest_in(tmp_path, "-o", "asyncio_mode=auto", JOBS_REDIS_URL="redis://127.0.0.1:1/3")
    assert "The Redis for the tests, redis://127.0.0.1:1/3, cannot be used" in run.stdout


def test_the_plugin_imports_little() -> None:
    """Pytest imports it in every run, also of those who have no test of jobs."""
    program = (
        "import sys, pytest; before = set(sys.modules); import service.testing.plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    names = ["service", "service.lazy", "service.testing", "service.testing.plugin"]
    assert run.stdout.split() == names
