"""Gives tests a real Valkey: one server for the session, clean for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.valkey import Valkey

# How long an example takes depends on what else the machine does; the tests have their timeouts.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The session's server; a test that stops or freezes its server takes `own_valkey`."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The address of the session's server, emptied for this test."""
    valkey.flush()
    return valkey.url


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, to stop, kill or freeze; its data outlives a restart."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    # With `everysec` it answers before it has written while the disk is busy: what was accepted in
    # the second before a SIGKILL can be gone.
    with Valkey(folder, {"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server
