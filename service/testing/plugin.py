"""The pytest plugin of quart-celery-service: the fixtures `jobs` and `recorded_jobs`.

Pytest imports this module in every run, also of those who have no test of jobs. What a fixture
needs is imported when a test asks for that fixture.
"""

# ruff: noqa: PLC0415  see above

import os
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_SCOPES = ("function", "class", "module", "package", "session")
_OF_TEST: "pytest.StashKey[Any]" = pytest.StashKey()
_NO_APP = (
    "The fixtures of quart-celery-service need your app. Write"
    ' `jobs_app = "package.module:create_app"` into the configuration of pytest, or a fixture'
    " `jobs_app` that returns a Quart app with jobs, or the `Jobs` of a host of another kind."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    parser.addini("jobs_app", "where the app with jobs is, or what makes it: package.module:name")
    group = parser.getgroup("jobs", "jobs (quart-celery-service)")
    group.addoption(
        "--jobs-redis",
        metavar="URL",
        help="a database of a Redis that tests may empty, in place of a private Valkey;"
        " also JOBS_REDIS_URL in the environment",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixture for pytest-asyncio, if that is there."""
    if config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.register(_asyncio_fixtures(), "jobs-asyncio")


@pytest.fixture(scope="session")
def jobs_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the Redis of all tests of this process."""
    from service.testing.server import NoServerError, given_database, running_valkey

    given = request.config.getoption("--jobs-redis") or os.environ.get("JOBS_REDIS_URL")
    try:
        if given:
            yield given_database(given)
        else:
            with running_valkey() as url:
                yield url
    except NoServerError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def _empty_jobs_redis(jobs_server: str) -> Iterator[Any]:
    """A function that empties it."""
    from service.testing.server import emptying

    with emptying(jobs_server) as empty:
        yield empty


@pytest.fixture
def jobs_redis_url(
    jobs_server: str, _empty_jobs_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The address of the tests' Redis, emptied for this one; SERVICE_REDIS_URL has it."""
    _empty_jobs_redis()
    monkeypatch.setenv("SERVICE_REDIS_URL", jobs_server)
    return jobs_server


@pytest.fixture
def jobs_app(request: pytest.FixtureRequest) -> Any:
    """The app whose jobs are run; from the configuration, unless a fixture replaces this one."""
    path = request.config.getini("jobs_app")
    if not path:
        pytest.fail(_NO_APP, pytrace=False)
    import pkgutil

    from quart import Quart

    from service.extension import Jobs

    found = pkgutil.resolve_name(path)
    return found if isinstance(found, Quart | Jobs) else found()


@pytest.fixture
def jobs(request: pytest.FixtureRequest, jobs_redis_url: str, jobs_app: Any) -> Any:
    """A JobRunner: runs the jobs of `jobs_app` on the event loop of the test."""
    if "anyio_backend" in request.fixturenames:
        return request.getfixturevalue("_jobs_under_anyio")
    marker = request.node.get_closest_marker("asyncio")
    if not request.config.pluginmanager.has_plugin("jobs-asyncio"):
        text = "The fixture `jobs` needs pytest-asyncio, or anyio's plugin, to run an async test."
        pytest.fail(text, pytrace=False)
    scope = (marker and marker.kwargs.get("loop_scope")) or request.config.getini(
        "asyncio_default_test_loop_scope"
    )
    return request.getfixturevalue(f"_jobs_in_{scope}_loop")


@pytest.fixture
def recorded_jobs(request: pytest.FixtureRequest, jobs_app: Any) -> Iterator[Any]:
    """A JobRecorder: records the jobs that `jobs_app` enqueues; there is no server."""
    from service.testing.recorder import record_jobs

    with record_jobs(jobs_app) as recorder, _reported(request.node, recorder):
        yield recorder


@contextmanager
def _reported(item: pytest.Item, tester: Any) -> Iterator[None]:
    """Have a failure of the test show the jobs that failed; pytest keeps the item for long."""
    item.stash[_OF_TEST] = tester
    try:
        yield
    finally:
        del item.stash[_OF_TEST]


def _running() -> Any:
    """The function of the fixture, a new one at each call: pytest-asyncio marks what it gets."""

    async def running(
        request: pytest.FixtureRequest, jobs_redis_url: str, jobs_app: Any
    ) -> AsyncIterator[Any]:
        from service.testing.lifespan import redis_of, run_jobs

        if redis_of(jobs_app) != jobs_redis_url:
            pytest.fail(
                "The app of the fixture `jobs_app` uses another Redis than the tests'. Make the app"
                " in the fixture, after `jobs_redis_url`, which sets SERVICE_REDIS_URL;"
                " `app.config` must have no other.",
                pytrace=False,
            )
        async with run_jobs(jobs_app) as runner:
            with _reported(request.node, runner):
                yield runner

    return running


_jobs_under_anyio = pytest.fixture(name="_jobs_under_anyio")(_running())


def _asyncio_fixtures() -> Any:
    """A plugin with one fixture for each scope that the event loop of a test may have."""
    from types import ModuleType

    import pytest_asyncio

    plugin = ModuleType("jobs-asyncio")  # pytest looks for fixtures of modules and classes
    for scope in _SCOPES:
        name = f"_jobs_in_{scope}_loop"
        decorate: Any = pytest_asyncio.fixture
        make = decorate(name=name, loop_scope=scope)
        setattr(plugin, name, make(_running()))
    return plugin


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the jobs that failed in a test that fails, unless it has raised their errors itself."""
    report = yield
    tester: Any = item.stash.get(_OF_TEST, None)
    is_failure = tester is not None and call.when == "call" and report.failed
    if is_failure and (text := tester.report()):
        report.sections.append(("jobs that failed", text))
    return report
