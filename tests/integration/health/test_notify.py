"""systemd is told that a web process has started, goes on and stops."""

from pathlib import Path

import pytest

from service import create_app
from service.processes.notify import Notifier
from tests.support.systemd import Manager
from tests.support.wait import wait_until_async


async def test_systemd_hears_of_the_web_side(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY once it has started, WATCHDOG while its loop turns, STOPPING at the end."""
    manager = Manager(tmp_path, watchdog=0.02)
    for name, value in manager.env.items():
        monkeypatch.setenv(name, value)
    async with create_app({"SERVICE_REDIS_URL": redis_url}).test_app():
        await wait_until_async(
            lambda: manager.heard("WATCHDOG=1") > 3, description="the watchdog is fed"
        )
        assert manager.messages[0] == "READY=1"
        assert manager.heard("STOPPING=1") == 0
    assert manager.heard("STOPPING=1") == 1
    manager.close()


def test_only_the_process_that_is_watched_feeds_the_watchdog() -> None:
    """`WATCHDOG_PID` names it: another one would hide that this hangs."""
    given = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}
    own, other = (
        Notifier.from_environment({**given, **more}) for more in ({}, {"WATCHDOG_PID": "1"})
    )
    assert own is not None
    assert other is not None
    assert (own.interval, other.interval) == (15.0, 0.0)
    assert Notifier.from_environment({}) is None


def test_a_manager_that_has_gone_does_no_harm(tmp_path: Path) -> None:
    """A process is worth more than what is said of it."""
    Notifier(f"{tmp_path}/nobody").tell("READY=1")
