"""Finds what keeps a server from everything else for long."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from redis.exceptions import ResponseError

from tests.support.valkey import Valkey


@contextmanager
def none_slower_than(valkey: Valkey, milliseconds: int) -> Iterator[None]:
    """Fail where a command or script takes longer.

    The server's log has the time on the clock. So that this is its processor time, the system lets
    it go before all else, where the test may ask for that.
    """
    with suppress(PermissionError, AttributeError):  # an ordinary user; macOS
        os.sched_setscheduler(valkey.pid, os.SCHED_FIFO, os.sched_param(1))
    with valkey.client() as redis:
        before: Any = redis.config_get("slowlog-*")
        redis.config_set("slowlog-log-slower-than", milliseconds * 1000)
        redis.slowlog_reset()
        try:
            yield
            found: Any = redis.slowlog_get(100)
        finally:
            for name, value in before.items():
                with suppress(ResponseError):
                    redis.config_set(name, value)
    slow = [(each["duration"] / 1000, each["command"][:100]) for each in found]
    assert slow == [], f"slower than {milliseconds} ms: {slow}"
