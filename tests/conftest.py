"""Gives tests a real Valkey, says which tests are quick, and fails those that leave something."""

import inspect
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import _state
from hypothesis import HealthCheck, settings
from redis.exceptions import RedisError
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # xdist has none

from service.broker import celery_worker
from tests.support.leaks import other_tasks, our_threads, unknown_or_lasting_keys
from tests.support.ports import free_port
from tests.support.serving import PATIENT
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import MODULES, Worker, running_worker

# How long an example takes depends on what else the machine does; the tests have their timeouts.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


class _ByWorkerOrFile(LoadScopeScheduling):  # type: ignore[misc]  # Any, as above
    """Runs all tests that share a worker in one process of xdist's, and others file by file.

    So it runs those that share a RabbitMQ server.

    `--dist loadgroup` would do it, but finds no group where pytest is newer than 9.0.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/system/rabbitmq/"):
            return "rabbitmq"
        found = re.search(r"[\[-](worker-\w+)[-\]]", nodeid)
        return found[1] if found else nodeid.partition("::")[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-pictures",
        action="store_true",
        help="keep the pictures of README.md as they are now",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByWorkerOrFile(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Put the shared worker into a test's id, by which xdist knows it."""
    return f"worker-{val}" if argname == "shared_worker" else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Say of a test whether it is quick, and what it must not leave."""
    kind = item.path.relative_to(Path(__file__).parent).parts[0]
    params = item.callspec.params if hasattr(item, "callspec") else {}
    may_be_quick = kind == "unit" or params.get("shared_worker") == "asyncio"
    if may_be_quick and item.get_closest_marker("slow") is None:
        item.add_marker("quick")
    is_async = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function)
    if is_async and kind != "browser":  # whose loop is the session's
        item.fixturenames.insert(0, "no_task_left")  # type: ignore[attr-defined]  # a Function's


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The session's server; a test that stops or freezes its server takes `own_valkey`."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_worker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """The session's worker under one pool, for tests that leave it as they found it.

    They also show that none of them harms the next. A test is given the pool by
    `parametrize("shared_worker", [...], indirect=True)`.
    """
    many = ("--concurrency", "600") if request.param == "asyncio" else ()
    folder = tmp_path_factory.mktemp(request.param)
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_METRICS_PORT": str(free_port())}
    with running_worker(request.param, folder, *many, **env) as worker:
        yield worker


@pytest.fixture
def redis_url(
    request: pytest.FixtureRequest, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of the session's server, emptied for this test.

    Apps and workers of the test wait for it as long as a busy machine may need.
    """
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    valkey.flush()
    yield valkey.url
    _check_keys(request, valkey)


@pytest.fixture
def own_valkey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, to stop, kill or freeze; its data outlives a restart."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    # With `everysec` it answers before it has written while the disk is busy: what was accepted in
    # the second before a SIGKILL can be gone.
    with Valkey(folder, {"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server
        _check_keys(request, server)


def _check_keys(request: pytest.FixtureRequest, valkey: Valkey) -> None:
    """Fail where a key is unknown, or lasts though its kind must not; not where Redis has gone."""
    if _leaves(request, "keys"):
        return
    try:
        with valkey.client() as redis:
            left = unknown_or_lasting_keys(redis)
            redis.select(1)
            left += unknown_or_lasting_keys(redis)
    except (RedisError, OSError):  # the test has stopped or frozen it
        return
    assert left == [], "not in service/redis/KEYS.md, or without a TTL"


@pytest.fixture(autouse=True)
def no_thread_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a thread of ours, or of a helper's, outlives its test."""
    before = our_threads()
    yield
    if not _leaves(request, "threads"):
        wait_until(
            lambda: our_threads() <= before,
            timeout=5,
            description="the threads have ended that this test has started",
        )


@pytest.fixture(autouse=True)
def no_worker_left() -> Iterator[None]:
    """Fail where the next tests of this process would be taken for a worker's."""
    yield
    assert not celery_worker.is_worker(), "the test has sent Celery's signal `worker_ready`"


@pytest.fixture(autouse=True)
def same_current_app() -> Iterator[None]:
    """Have no Celery app of one test be the current app, or the default one, of the next."""
    state: Any = _state
    current, default = state._tls.current_app, state.default_app
    yield
    state._set_current_app(current)
    state.set_default_app(default)


@pytest.fixture
async def no_task_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail where an asyncio task outlives its test; every async test has this."""
    yield
    if not _leaves(request, "tasks"):
        await wait_until_async(
            lambda: not other_tasks(),
            timeout=5,
            description=f"the tasks have ended that this test has started: {other_tasks()}",
        )


def _leaves(request: pytest.FixtureRequest, what: str) -> bool:
    """Whether the test says by `@pytest.mark.leaves(what, reason=…)` that it leaves something."""
    return any(what in mark.args for mark in request.node.iter_markers("leaves"))
