"""Finds what a test has left behind: keys unknown or without a TTL, threads, asyncio tasks."""

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis

from tests.support.process import ROOT

_PREFIX: Final = re.compile(r"(?<=[:_.-])(?=.)")  # where a `global_keyprefix` may end
# The rows of KEYS.md: the form of a name, its type, and how long it lives.
_ROWS: Final = re.findall(
    r"^\| `(.+?)` \| (\S+) \| (.+?) \|", (ROOT / "service/redis/KEYS.md").read_text(), re.MULTILINE
)
_KINDS: Final = [
    (re.compile(re.sub("<.+?>", ".+", re.escape(key).replace("\\ ", " "))), type_, life)
    for key, type_, life in _ROWS
]
# The threads that the package starts, by the first words of their names.
_OURS: Final = (
    *("event-loop", "loop-watchdog", "sync-body", "blocking-call", "to-thread"),
    *("recorder", "reporter", "broker", "job-log"),
    *("enqueuing", "tls front"),  # of the tests' own
)
# Those of a process's leases on a broker end with the process: what it holds outlives every app.


def unknown_or_lasting_keys(redis: Redis) -> list[str]:
    """The keys of one database that `service/redis/KEYS.md` does not list, or that lack a TTL."""
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
    kinds = [kind for part in _without_prefix(name) for kind in _kinds_of(part, type_)[:1]]
    # Every list may be a queue, which is the last kind: another one says more.
    kind = min(kinds, default=None)
    return kind is not None and (_KINDS[kind][2].startswith("until") or redis.pttl(name) != -1)


def _kinds_of(name: str, type_: str) -> list[int]:
    """The rows that fit a key of this Redis type, its name given without a prefix."""
    return [
        number
        for number, (form, wanted, _) in enumerate(_KINDS)
        if wanted in ("*", type_) and form.fullmatch(name)
    ]


def _without_prefix(name: str) -> Iterator[str]:
    yield name
    for found in _PREFIX.finditer(name):
        yield name[found.end() :]
