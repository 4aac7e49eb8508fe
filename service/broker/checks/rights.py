"""Tries what the broker needs of a Redis: its commands on a scratch key, and its channels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterError,
    NoPermissionError,
    ResponseError,
)

from service.broker.checks.findings import DISPENSABLE

# What only a node of a cluster answers.
OF_CLUSTERS: Final = (AskError, ClusterCrossSlotError, ClusterError)
# The commands that the transport's scripts and its consuming connection call. Each entry's key is
# the arguments after the scratch key. Their number must be right, for Redis looks at it before it
# looks at the user's rights.
_ON_SCRATCH: Final[Mapping[str, tuple[str, ...]]] = {
    "x EX 5": ("set",),  # first: the others then fail at the key's type, and change nothing
    "": ("rpop", "llen", "zcard", "exists", "zpopmin", "hgetall"),
    "x": ("lpush", "rpush", "hget", "hmget", "hdel", "hexists", "zrem", "zscore"),
    "0 0": ("hset", "zadd", "zcount", "zrange"),
    "0.01": ("blpop",),
    "5": ("expire",),
    "5000": ("pexpire",),
}
_WITHOUT_KEY: Final = {
    "time": "",
    "eval": "return(1) 0",
    "evalsha": "0" * 40 + " 0",
    DISPENSABLE: "OFF",
}
COMMANDS: Final = frozenset({*_WITHOUT_KEY, *(c for group in _ON_SCRATCH.values() for c in group)})
_UNKNOWN: Final = ("unknown command", "unknown subcommand")


@dataclass(frozen=True, slots=True)
class Refused:
    """The commands that the user may not run, and those that the server does not know."""

    denied: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def refused_commands(client: Redis, scratch: str) -> Refused:
    """Try the commands on a key that holds text: rights are checked first, the type then stops.

    Raises one of `OF_CLUSTERS` where only one server of several was asked.
    """
    calls = [(c, [scratch, *rest.split()]) for rest, group in _ON_SCRATCH.items() for c in group]
    first, *others = [*calls, *((c, rest.split()) for c, rest in _WITHOUT_KEY.items())]
    refused = _refused(client, [first])
    if refused == Refused():  # without the text the others would leave something behind
        refused = _refused(client, others)
        with suppress(NoPermissionError):  # then it goes by itself in a few seconds
            client.delete(scratch)
    return refused


def _refused(client: Redis, calls: Sequence[tuple[str, list[str]]]) -> Refused:
    """What of these is refused; asked for in one round trip."""
    with client.pipeline(transaction=False) as pipe:
        for command, arguments in calls:
            pipe.execute_command(*command.split(), *arguments)  # type: ignore[no-untyped-call]  # by redis-py
        answers: list[Any] = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, OF_CLUSTERS):
            raise answer
    told = [(command, answer) for (command, _), answer in zip(calls, answers, strict=True)]
    return Refused(
        denied=tuple(command for command, answer in told if isinstance(answer, NoPermissionError)),
        missing=tuple(
            command
            for command, answer in told
            if isinstance(answer, ResponseError) and str(answer).lower().startswith(_UNKNOWN)
        ),
    )


def closed_channels(client: Redis, channels: Iterable[str]) -> Iterator[str]:
    """Which of the channels the user may not subscribe to."""
    with client.pubsub() as subscriber:  # type: ignore[no-untyped-call]  # by redis-py
        for channel in channels:
            subscriber.subscribe(channel)
            try:
                subscriber.parse_response()
            except NoPermissionError:
                yield channel
