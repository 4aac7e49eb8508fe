"""Checks at start that Redis keeps what it is given: pure functions on its own answers."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

# For CLIENT TRACKING and ZRANGE ... BYSCORE. Valkey says 7.2.4 here, whatever its own version.
OLDEST: Final = (6, 2)
# What the transport's scripts and its consumer connection call, with arguments for a trial on the
# key that stands for `_SCRATCH`.
_SCRATCH: Final = "{scratch}"
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "set": (_SCRATCH, "", "EX", "5"),
    "time": (),
    "eval": ("return 1", "0"),
    "evalsha": ("0" * 40, "0"),
    "rpop": (_SCRATCH,),
    "lpush": (_SCRATCH, "x"),
    "rpush": (_SCRATCH, "x"),
    "llen": (_SCRATCH,),
    "blpop": (_SCRATCH, "0.01"),
    "hset": (_SCRATCH, "x", "x"),
    "hget": (_SCRATCH, "x"),
    "hmget": (_SCRATCH, "x"),
    "hdel": (_SCRATCH, "x"),
    "hexists": (_SCRATCH, "x"),
    "zadd": (_SCRATCH, "0", "x"),
    "zrem": (_SCRATCH, "x"),
    "zrange": (_SCRATCH, "0", "0"),
    "zscore": (_SCRATCH, "x"),
    "zcard": (_SCRATCH,),
    "zremrangebyscore": (_SCRATCH, "0", "0"),
    "expire": (_SCRATCH, "5"),
    "pexpire": (_SCRATCH, "5000"),
    "client tracking": ("OFF",),
}
# What the transport can do without: waiting.py then looks for jobs instead of being told.
_DISPENSABLE: Final = "client tracking"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: `refuse` means that jobs would be lost silently, else they are at risk."""

    refuse: bool
    text: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What Redis said of itself; None for what it would not say. `denied` are the commands that
    it refuses."""

    info: Mapping[str, Any] | None
    config: Mapping[str, str] | None
    denied: tuple[str, ...] = ()


def check(answers: Answers, *, for_transport: bool = True) -> tuple[Finding, ...]:
    """All that is wrong, worst first; `for_transport` asks for what only our transport needs."""
    needs = [*check_version(answers.info), *check_rights(answers.denied)] if for_transport else []
    findings = [
        *check_eviction(answers.config, answers.info),
        *needs,
        *check_role(answers.info),
        *check_persistence(answers.config, answers.info),
    ]
    return tuple(sorted(findings, key=lambda finding: not finding.refuse))


def check_eviction(
    config: Mapping[str, str] | None, info: Mapping[str, Any] | None
) -> tuple[Finding, ...]:
    """An evicting Redis deletes queues without a word."""
    policy = (config or {}).get("maxmemory-policy") or (info or {}).get("maxmemory_policy")
    limit = int((config or {}).get("maxmemory") or (info or {}).get("maxmemory") or 0)
    if policy is None:
        return (
            Finding(
                refuse=False,
                text="Redis does not tell its maxmemory-policy. Make sure that it is `noeviction`:"
                " any other one deletes queued jobs when memory is full.",
            ),
        )
    if str(policy).startswith("allkeys"):
        return (
            Finding(
                refuse=True,
                text=f"Redis has `maxmemory-policy {policy}`: it deletes queued jobs when memory is"
                " full. Set `maxmemory-policy noeviction`.",
            ),
        )
    if str(policy).startswith("volatile") and limit:
        return (
            Finding(
                refuse=False,
                text=f"Redis has `maxmemory-policy {policy}`: it deletes results before their time"
                " when memory is full. Set `maxmemory-policy noeviction`.",
            ),
        )
    return ()


def check_persistence(
    config: Mapping[str, str] | None, info: Mapping[str, Any] | None
) -> tuple[Finding, ...]:
    """Without a file, a restart of Redis forgets every job."""
    if config is not None and "appendonly" in config:
        appends = config["appendonly"] == "yes"
    elif info is not None and "aof_enabled" in info:
        appends = bool(int(info["aof_enabled"]))
    else:
        return (
            Finding(
                refuse=False,
                text="Redis does not tell whether it persists. Make sure that `appendonly` is"
                " `yes`: else a restart of Redis forgets jobs.",
            ),
        )
    if not appends:
        return (
            Finding(
                refuse=False,
                text="Redis has `appendonly no`: a crash of Redis forgets the jobs since its last"
                " snapshot, or all of them. Set `appendonly yes`.",
            ),
        )
    if (config or {}).get("appendfsync") == "no":
        return (
            Finding(
                refuse=False,
                text="Redis has `appendfsync no`: a power loss forgets half a minute of jobs."
                " Set `appendfsync everysec`, or `always` to lose none.",
            ),
        )
    return ()


def check_version(info: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    """An old server lacks commands that the scripts use."""
    version = str((info or {}).get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == len(OLDEST) and numbers < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return (
            Finding(
                refuse=True,
                text=f"This is Redis {version}; the transport needs {wanted} or newer, or Valkey."
                " Upgrade, or set SERVICE_LEASE=0 to go back to Celery's own transport.",
            ),
        )
    return ()


def check_role(info: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    """A replica takes no jobs."""
    if (info or {}).get("role") == "slave":
        return (
            Finding(
                refuse=True,
                text="This Redis is a replica and takes no writes. Give the address of the master,"
                " or of the sentinels as sentinel://.",
            ),
        )
    return ()


def check_rights(denied: tuple[str, ...]) -> tuple[Finding, ...]:
    """A user without a right that a script needs fails at the first job."""
    findings = []
    if needed := [command for command in denied if command != _DISPENSABLE]:
        text = f"The Redis user may not run {', '.join(needed).upper()}. {_grant(needed)}"
        findings.append(Finding(refuse=True, text=text))
    if _DISPENSABLE in denied:
        text = (
            f"The Redis user may not run {_DISPENSABLE.upper()}, so Redis cannot tell idle workers"
            " of new jobs: two workers of each kind ask for some up to 20 times a second, and a job"
            f" starts up to 0.1 s later. {_grant([_DISPENSABLE])}"
        )
        findings.append(Finding(refuse=False, text=text))
    return tuple(findings)


def _grant(commands: Iterable[str]) -> str:
    rules = " ".join("+" + command.replace(" ", "|") for command in commands)
    return f"Grant it: ACL SETUSER <user> {rules}."


def ask(client: Redis, *, scratch: str = "") -> Answers:
    """Ask Redis; raises RedisError when it is away, not when it refuses to tell.

    `scratch` is a key to try the transport's commands on: one that its user may have.
    """
    info = _asked(lambda: dict(client.info()))
    config = _asked(lambda: {**_config(client, "maxmemory*"), **_config(client, "append*")})
    return Answers(info=info, config=config, denied=_denied(client, scratch))


def _asked(question: Any) -> Any:
    try:
        return question()
    except (NoPermissionError, ResponseError):
        return None


def _config(client: Redis, pattern: str) -> dict[str, str]:
    answer: Any = client.config_get(pattern)
    return {_text(name): _text(value) for name, value in answer.items()}


def _denied(client: Redis, scratch: str) -> tuple[str, ...]:
    """Try everything on a key that holds text: rights are checked first, the type then stops it."""
    denied: list[str] = []
    for command, template in COMMANDS.items() if scratch else ():
        arguments = [scratch if part == _SCRATCH else part for part in template]
        try:
            client.execute_command(*command.split(), *arguments)  # type: ignore[no-untyped-call]  # by redis-py
        except NoPermissionError:
            denied.append(command)
            if command == "set":
                break  # without the text the others would leave something behind
        except ResponseError:
            pass
    if scratch:
        with suppress(NoPermissionError):  # then it goes by itself in a few seconds
            client.delete(scratch)
    return tuple(denied)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
