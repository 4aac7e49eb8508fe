"""Gives tests a real Valkey, says which tests are quick, and fails those that leave something."""

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis.exceptions import RedisError

from tests.support.leaks import other_tasks, our_threads, unknown_or_lasting_keys
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import MODULES, Worker, running_worker

# How long an example takes depends on what else the machine does; the tests have their timeouts.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say of each test where it runs, whether it is quick, and what it must not leave."""
    for item in items:
        pool = _pool_of_shared_worker(item)
        file = item.path.relative_to(Path(__file__).parent)
        # Tests that share a worker run in one process of xdist's, others file by file.
        item.add_marker(pytest.mark.xdist_group(f"worker-{pool}" if pool else str(file)))
        is_unit = file.parts[0] == "unit"
        if (is_unit or pool == "asyncio") and item.get_closest_marker("slow") is None:
            item.add_marker("quick")
        if not isinstance(item, pytest.Function) or "browser" in item.path.parts:
            continue  # a browser's loop is the session's
        if inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_left")


def _pool_of_shared_worker(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("shared_worker") if callspec else None


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
    with running_worker(request.param, folder, *many, SERVICE_TASK_MODULES=MODULES) as worker:
        yield worker


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[str]:
    """The address of the session's server, emptied for this test."""
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
    assert left == [], "unknown to service/redis/keys.py, or without a TTL"


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
