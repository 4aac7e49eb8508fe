"""A Redis that would lose jobs is told of before the first one is accepted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import POOLS
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
    """It would accept jobs that nobody will ever run. (Hypercorn's exit code is always 0.)"""
    with Web(evicting.url) as web:
        web.wait(20)
        assert "`maxmemory-policy allkeys-lru`: it deletes queued jobs" in web.output
        assert ADVICE in web.output


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_refuses_a_redis_that_evicts(evicting: Valkey, tmp_path: Path, pool: str) -> None:
    """Whoever starts it sees why, and what to change."""
    with worker_process(pool, evicting.url, tmp_path) as worker:
        assert worker.wait(20) != 0
        assert ADVICE in worker.output
        assert "ready." not in worker.output


def test_what_is_only_a_risk_is_a_warning(valkey: Valkey, redis_url: str) -> None:
    """Development servers have no persistence; work goes on."""
    with Web(redis_url) as web:
        web.wait_until_ready()
        assert "Set `appendonly yes`." in web.output
