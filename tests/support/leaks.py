"""Finds what a test has left behind: keys unknown or without a TTL, threads, asyncio tasks."""

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis

from service.redis.keys import KINDS, KeyKind

_PREFIX: Final = re.compile(r"(?<=[:_.-])(?=.)")  # where a `global_keyprefix` may end
# The threads that the package starts, by the first words of their names.
_OURS: Final = (
    *("event-loop", "loop-watchdog", "sync-body", "blocking-call", "to-thread"),
    *("recorder", "reporter", "broker"),
    *("enqueuing", "tls front"),  # of the tests' own
)
# Those of a process's leases on a broker end with the process: what it holds outlives every app.


def unknown_or_lasting_keys(redis: Redis) -> list[str]:
    """The keys of one database that `service/redis/keys.py` does not know, or that lack a TTL."""
    names: Any = list(redis.scan_iter(count=1000))
    return sorted(name for name in names if not _may_be_left(redis, name))


def our_threads() -> set[threading.Thread]:
    """The threads of this process that the package, or a helper of the tests, has started."""
    return {thread for thread in threading.enumerate() if thread.name.startswith(_OURS)}


def other_tasks() -> set["asyncio.Task[Any]"]:
    """The tasks of the running loop that are not done, but for the caller's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


def _may_be_left(redis: Redis, name: str) -> bool:
    type_ = str(redis.type(name))
    if type_ == "none":  # it has expired meanwhile
        return True
    kinds = [kind for part in _without_prefix(name) if (kind := _kind_of(part, type_))]
    # Every list may be a queue, which is the last kind: another one says more.
    kind = min(kinds, key=KINDS.index, default=None)
    return kind is not None and (kind.ttl.startswith("until") or redis.pttl(name) != -1)


def _kind_of(name: str, type_: str) -> KeyKind | None:
    """The kind of a key of this Redis type, its name given without a prefix; None if unknown."""
    for kind in KINDS:
        if kind.type in ("*", type_) and re.fullmatch(kind.pattern, name):
            return kind
    return None


def _without_prefix(name: str) -> Iterator[str]:
    yield name
    for found in _PREFIX.finditer(name):
        yield name[found.end() :]
