"""Gives the broker's tests a bench with an empty broker and a short lease."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Bench
from tests.support.valkey import Valkey


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    """A bench on the session's server."""
    with Bench(redis_url, tmp_path) as bench:
        yield bench


@pytest.fixture
def own_bench(own_valkey: Valkey, tmp_path: Path) -> Iterator[Bench]:
    """A bench on a server that the test may stop, freeze or kill."""
    with Bench(own_valkey.url, tmp_path) as bench:
        yield bench
