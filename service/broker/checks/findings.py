"""What can be wrong with a Redis: a table of checks on its own answers, without I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

# For CLIENT TRACKING and ZRANGE ... BYSCORE. Valkey says 7.2.4 here, whatever its own version.
OLDEST: Final = (6, 2)
# The transport can do without: transport/waiter.py then looks for jobs instead of being told.
DISPENSABLE: Final = "client tracking"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: `refuse` means that jobs would be lost silently, else they are at risk."""

    refuse: bool
    text: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What Redis said of itself; None for what it would not say. It refuses what is `denied`.

    `for_transport` asks for what only our transport needs, too.
    """

    info: Mapping[str, Any] | None
    config: Mapping[str, str] | None
    denied: tuple[str, ...] = ()
    for_transport: bool = True

    def _either(self, option: str, field: str) -> Any:
        return (self.config or {}).get(option) or (self.info or {}).get(field)

    @property
    def policy(self) -> str:
        """What Redis does when its memory is full; empty if it does not tell."""
        return str(self._either("maxmemory-policy", "maxmemory_policy") or "")

    @property
    def has_memory_limit(self) -> bool:
        """Whether Redis has a `maxmemory`."""
        return bool(int(self._either("maxmemory", "maxmemory") or 0))

    @property
    def appends(self) -> bool | None:
        """Whether Redis writes each change to a file; None if it does not tell."""
        if self.config is not None and "appendonly" in self.config:
            return self.config["appendonly"] == "yes"
        if self.info is not None and "aof_enabled" in self.info:
            return bool(int(self.info["aof_enabled"]))
        return None

    @property
    def version(self) -> str:
        """The server's version as it tells it."""
        return str((self.info or {}).get("redis_version", ""))

    @property
    def is_too_old(self) -> bool:
        """Whether the server lacks commands that the scripts use."""
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        return len(numbers) == len(OLDEST) and numbers < OLDEST

    @property
    def needed(self) -> str:
        """The denied commands that the scripts cannot do without."""
        return ", ".join(command for command in self.denied if command != DISPENSABLE).upper()

    @property
    def rules(self) -> str:
        """The rules of Redis's ACL that grant the needed commands."""
        return " ".join("+" + command for command in self.needed.lower().split(", "))


# What applies, and the text: `{0.name}` stands for a property of Answers.
_Check = tuple[Callable[[Answers], Any], str]
_REFUSALS: Final[tuple[_Check, ...]] = (
    (
        lambda answers: answers.policy.startswith("allkeys"),
        "Redis has `maxmemory-policy {0.policy}`: it deletes queued jobs when memory is full."
        " Set `maxmemory-policy noeviction`.",
    ),
    (
        lambda answers: answers.for_transport and answers.is_too_old,
        f"This is Redis {{0.version}}; the transport needs {OLDEST[0]}.{OLDEST[1]} or newer,"
        " or Valkey. Upgrade, or set SERVICE_LEASE=0 to go back to Celery's own transport.",
    ),
    (
        lambda answers: answers.needed,
        "The Redis user may not run {0.needed}. Grant it: ACL SETUSER <user> {0.rules}.",
    ),
    (
        lambda answers: (answers.info or {}).get("role") == "slave",
        "This Redis is a replica and takes no writes. Give the address of the master,"
        " or of the sentinels as sentinel://.",
    ),
)
_WARNINGS: Final[tuple[_Check, ...]] = (
    (
        lambda answers: not answers.policy,
        "Redis does not tell its maxmemory-policy. Make sure that it is `noeviction`:"
        " any other one deletes queued jobs when memory is full.",
    ),
    (
        lambda answers: answers.policy.startswith("volatile") and answers.has_memory_limit,
        "Redis has `maxmemory-policy {0.policy}`: it deletes results before their time"
        " when memory is full. Set `maxmemory-policy noeviction`.",
    ),
    (
        lambda answers: DISPENSABLE in answers.denied,
        "The Redis user may not run CLIENT TRACKING, so Redis cannot tell idle workers"
        " of new jobs: two workers of each kind ask for some up to 20 times a second, and a job"
        " starts up to 0.1 s later. Grant it: ACL SETUSER <user> +client|tracking.",
    ),
    (
        lambda answers: answers.appends is None,
        "Redis does not tell whether it persists. Make sure that `appendonly` is"
        " `yes`: else a restart of Redis forgets jobs.",
    ),
    (
        lambda answers: answers.appends is False,
        "Redis has `appendonly no`: a crash of Redis forgets the jobs since its last"
        " snapshot, or all of them. Set `appendonly yes`.",
    ),
    (
        lambda answers: answers.appends and (answers.config or {}).get("appendfsync") == "no",
        "Redis has `appendfsync no`: a power loss forgets half a minute of jobs."
        " Set `appendfsync everysec`, or `always` to lose none.",
    ),
)


def check(answers: Answers) -> tuple[Finding, ...]:
    """All that is wrong, worst first."""
    return tuple(
        Finding(refuse=refuse, text=text.format(answers))
        for refuse, checks in ((True, _REFUSALS), (False, _WARNINGS))
        for applies, text in checks
        if applies(answers)
    )
