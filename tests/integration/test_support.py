"""The helpers that every other test leans on do what they say."""

import signal
import sys
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.process import Process, is_alive
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async


def test_a_wait_that_is_in_vain_says_for_what() -> None:
    """A test that times out must name the missing event, not just the clock."""
    with pytest.raises(AssertionError, match=r"still not: pigs fly"):
        wait_until(lambda: False, timeout=0, description="pigs fly")


async def test_an_async_wait_takes_plain_and_coroutine_functions() -> None:
    """Async tests ask both local state and servers."""
    answers: Iterator[int] = iter([0, 3])

    async def ask() -> int:
        return next(answers)

    assert await wait_until_async(ask, description="the second answer") == 3
    assert await wait_until_async(lambda: 4, description="any answer") == 4
    with pytest.raises(AssertionError, match=r"still not: pigs fly"):
        await wait_until_async(lambda: None, timeout=0, description="pigs fly")


def test_leaving_a_process_ends_its_whole_group() -> None:
    """A grandchild that outlives a test would disturb the next one."""
    script = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('grandchild', child.pid); child.wait()"
    )
    with Process([sys.executable, "-c", script]) as process:
        grandchild = int(process.wait_for_output(r"grandchild (\d+)$")[1])
        assert is_alive(grandchild)

    wait_until(lambda: not is_alive(grandchild), description="the grandchild is gone")


def test_a_failure_shows_the_end_of_the_output() -> None:
    """Without the log of the process a failed system test tells nothing."""
    dying = Process([sys.executable, "-c", "print('my last words'); exit(3)"])
    with pytest.raises(AssertionError, match="ended with 3 before") as caught, dying as process:
        process.wait_for_output("never said")

    assert "my last words" in "".join(caught.value.__notes__)


def test_a_process_is_stopped_by_the_signal_asked_for() -> None:
    """The exit code tells how a process took its signal."""
    with Process([sys.executable, "-c", "print('up'); import time; time.sleep(600)"]) as process:
        process.wait_for_output("^up$")
        assert process.stop(signal.SIGTERM) == -signal.SIGTERM


def test_each_test_finds_an_empty_database(redis_url: str, valkey: Valkey) -> None:
    """A key of one test must not be seen by the next."""
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
    valkey.flush()
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


@pytest.mark.leaves("keys", reason="one shows that the server keeps its data")
def test_a_server_of_ones_own_can_be_frozen_and_restarted(own_valkey: Valkey) -> None:
    """Faults are made with real signals on a real server."""
    with own_valkey.client() as client:
        client.set("kept", "yes")
    with Redis.from_url(own_valkey.url, socket_timeout=0.2, retry=None) as client:
        own_valkey.freeze()
        with pytest.raises(RedisTimeoutError):
            client.ping()
        own_valkey.thaw()
        assert client.ping()

    own_valkey.restart()
    own_valkey.kill()
    own_valkey.start()

    with own_valkey.client() as client:
        assert client.get("kept") == "yes"
