"""A Redis that would lose jobs is told of before the first one is accepted."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import POOLS
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.web import Web
from tests.support.workers import worker_process


@pytest.fixture
def evicting(tmp_path: Path) -> Iterator[Valkey]:
    """A server that deletes queues when its memory is full."""
    with Valkey(tmp_path, {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as valkey:
        yield valkey


ADVICE = "Set `maxmemory-policy noeviction`."


def test_the_web_side_refuses_a_redis_that_evicts(evicting: Valkey) -> None:
    """It would accept jobs that nobody will ever run. The last line says why.

    Hypercorn 0.18 exits with 0 then, as whatever becomes of its processes, so that is not asked.
    """
    with Web(evicting.url) as web:
        web.wait(20)
        last = web.output.splitlines()[-1]
        assert "`maxmemory-policy allkeys-lru`: it deletes queued jobs" in last
        assert ADVICE in last


def test_hypercorn_without_processes_of_its_own_exits_with_an_error(evicting: Valkey) -> None:
    """As operating.md tells those who run it under a process manager."""
    with Web(evicting.url, "asgi:app", "--workers", "0") as web:
        assert web.wait(20) == 1
        assert ADVICE in web.output.splitlines()[-1]


def test_the_development_server_says_so_and_starts_nothing(evicting: Valkey) -> None:
    """In one sentence, where worker and web would each have given a traceback."""
    command = [sys.executable, "-m", "service", "dev", "--bind", "127.0.0.1:0"]
    with Process(command, env={"SERVICE_REDIS_URL": evicting.url}, name="dev") as dev:
        assert dev.wait(20) == 1
        assert dev.output.startswith("service: Redis has `maxmemory-policy allkeys-lru`")
        assert dev.output.endswith(f"{ADVICE}\n")


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_refuses_a_redis_that_evicts(evicting: Valkey, tmp_path: Path, pool: str) -> None:
    """Whoever starts it sees why, and what to change."""
    with worker_process(pool, evicting.url, tmp_path, "--concurrency", "6") as worker:
        assert worker.wait(20) != 0  # however many children say so
        assert ADVICE in worker.output
        assert "ready." not in worker.output


def test_what_is_only_a_risk_is_a_warning(valkey: Valkey, redis_url: str) -> None:
    """Development servers have no persistence; work goes on."""
    with Web(redis_url) as web:
        web.wait_until_ready()
        assert "Set `appendonly yes`." in web.output
