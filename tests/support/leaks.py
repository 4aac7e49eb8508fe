"""Finds what a test has left behind: keys that stay in Redis for ever, threads, asyncio tasks."""

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis

# Of these kinds a key may stay: what is to be done, and what Kombu knows of its queues.
_MAY_STAY: Final = (
    ("hash", "unacked"),
    ("zset", "unacked_index"),
    ("set", r"_kombu\.binding(_permanent)?\..+"),
    ("list", r".+"),
)
_PREFIX: Final = re.compile(r"(?<=[:_.-])(?=.)")  # where a `global_keyprefix` may end
# The threads that the package starts, by the first words of their names.
_OURS: Final = (
    *("event-loop", "loop-watchdog", "sync-body", "blocking-call", "to-thread"),
    *("recorder", "reporter", "broker"),
    *("enqueuing", "tls front"),  # of the tests' own
)
# Those of a process's leases on a broker end with the process: what it holds outlives every app.


def lasting_keys(redis: Redis) -> list[str]:
    """The keys of one database that have no TTL although their kind must have one."""
    names: Any = [name for name in redis.scan_iter(count=1000) if redis.pttl(name) == -1]
    return sorted(name for name in names if not _may_stay(name, str(redis.type(name))))


def our_threads() -> set[threading.Thread]:
    """The threads of this process that the package, or a helper of the tests, has started."""
    return {thread for thread in threading.enumerate() if thread.name.startswith(_OURS)}


def other_tasks() -> set["asyncio.Task[Any]"]:
    """The tasks of the running loop that are not done, but for the caller's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


def _may_stay(name: str, kind: str) -> bool:
    return any(
        kind == may and re.fullmatch(pattern, part)
        for part in _without_prefix(name)
        for may, pattern in _MAY_STAY
    )


def _without_prefix(name: str) -> Iterator[str]:
    yield name
    for found in _PREFIX.finditer(name):
        yield name[found.end() :]
