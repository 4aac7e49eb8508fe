"""What can be wrong with a Redis: a table of checks on its own answers, without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.redis.clients import PREFIX_IN_CLUSTER

# For CLIENT TRACKING and ZRANGE ... BYSCORE. Valkey says 7.2.4 here, whatever its own version.
OLDEST: Final = (6, 2)
# The transport works without this command: transport/waiter.py then looks for new messages from
# time to time, where Redis would else tell it of them.
DISPENSABLE: Final = "client tracking"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: `refuse` means that jobs would be lost silently, else they are at risk."""

    refuse: bool
    text: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What Redis said of itself; `info` and `config` are None where it refuses these commands.

    `denied` are the other commands that the user may not run, `missing` those that the server does
    not know, and `channels` those that the user may not use, as the rules of an ACL name them.
    `for_transport` says that our transport uses this Redis, so that what only the transport needs
    is checked, too; `for_cluster` that the address is one of a cluster. `min_replicas` have to have
    a job before it is accepted.
    """

    info: Mapping[str, Any] | None
    config: Mapping[str, str] | None
    denied: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    for_transport: bool = True
    for_cluster: bool = False
    min_replicas: int = 0


RESP2: Final = Finding(
    refuse=True,
    text="This Redis refuses HELLO 3, and changes of jobs are heard by RESP3. Give the address of"
    " Redis itself, not of a proxy before it; or grant it: ACL SETUSER <user> +hello.",
)
CLUSTER: Final = Finding(
    refuse=True,
    text="This Redis is a node of a Redis Cluster, where the keys of a job would lie on several"
    " servers. Have all keys of the service in one slot: name the nodes as"
    f" redis-cluster://one:6379;redis-cluster://two:6379, and set {PREFIX_IN_CLUSTER}. Or give the"
    " address of a Redis outside of a cluster (`cluster-enabled no`), which may have replicas and"
    " sentinels. One that jobs outgrow is relieved by a RabbitMQ as SERVICE_CELERY__BROKER_URL.",
)
DATABASE: Final = Finding(
    refuse=True,
    text="This Redis Cluster has database 0 alone: end its address without the number of another.",
)


def check(answers: Answers) -> tuple[Finding, ...]:
    """All that is wrong, worst first."""
    info, config = answers.info or {}, answers.config or {}
    policy = str(config.get("maxmemory-policy") or info.get("maxmemory_policy") or "")
    has_limit = bool(int(config.get("maxmemory") or info.get("maxmemory") or 0))
    aof = {"0": "no", "1": "yes"}.get(str(info.get("aof_enabled")))
    appends = config.get("appendonly", aof)  # None: Redis does not tell
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    is_too_old = len(numbers) == len(OLDEST) and numbers < OLDEST
    denied, missing = (
        [command for command in commands if command != DISPENSABLE]
        for commands in (answers.denied, answers.missing)
    )
    replicas = info.get("connected_slaves", answers.min_replicas)  # unknown: taken as enough
    rules = " ".join("+" + command for command in denied)
    channels = " ".join(f"'&{channel}'" for channel in answers.channels)
    refusals = (
        (
            policy.startswith("allkeys"),
            f"Redis has `maxmemory-policy {policy}`: it deletes queued jobs when memory is full."
            " Set `maxmemory-policy noeviction`.",
        ),
        (
            answers.for_transport and is_too_old,
            f"This is Redis {version}; the transport needs {OLDEST[0]}.{OLDEST[1]} or newer,"
            " or Valkey. Upgrade, or set SERVICE_LEASE=0 to go back to Celery's own transport.",
        ),
        (
            denied,
            f"The Redis user may not run {', '.join(denied).upper()}."
            f" Grant it: ACL SETUSER <user> {rules}.",
        ),
        (
            missing,
            f"This Redis has no {', '.join(missing).upper()}, without which jobs would be lost."
            " Use another server, or a plan of the provider's that has it.",
        ),
        (
            channels,
            f"The Redis user may not subscribe to {', '.join(answers.channels)}, by which changes"
            " of jobs are heard and jobs cancelled. Grant it: ACL SETUSER <user> +subscribe"
            f" +unsubscribe {channels}.",
        ),
        (
            info.get("role") == "slave",
            "This Redis is a replica and takes no writes. Give the address of the master,"
            " or of the sentinels as sentinel://.",
        ),
    )
    warnings = (
        (
            not policy,
            "Redis does not tell its maxmemory-policy. Make sure that it is `noeviction`:"
            " any other one deletes queued jobs when memory is full.",
        ),
        (
            policy.startswith("volatile") and has_limit,
            f"Redis has `maxmemory-policy {policy}`: it deletes results before their time"
            " when memory is full. Set `maxmemory-policy noeviction`.",
        ),
        (
            DISPENSABLE in (*answers.denied, *answers.missing),
            "The Redis user may not run CLIENT TRACKING, or the server has it not, so Redis cannot"
            " tell idle workers of new jobs: two workers of each kind ask for some up to 20 times a"
            " second, and a job starts up to 0.1 s later. Grant it: ACL SETUSER <user>"
            " +client|tracking.",
        ),
        (
            replicas < answers.min_replicas,
            f"Redis has {replicas} replicas, and SERVICE_MIN_REPLICAS={answers.min_replicas}:"
            " no job is accepted until it has so many. Add replicas, or lower the setting.",
        ),
        (
            appends is None,
            "Redis does not tell whether it persists. Make sure that `appendonly` is"
            " `yes`: else a restart of Redis forgets jobs.",
        ),
        (
            appends == "no",
            "Redis has `appendonly no`: a crash of Redis forgets the jobs since its last"
            " snapshot, or all of them. Set `appendonly yes`.",
        ),
        (
            appends == "yes" and config.get("appendfsync") == "no",
            "Redis has `appendfsync no`: a power loss forgets half a minute of jobs."
            " Set `appendfsync everysec`, or `always` to lose none.",
        ),
    )
    refused = [Finding(refuse=True, text=text) for applies, text in refusals if applies]
    if str(info.get("cluster_enabled")) == "1" and not answers.for_cluster:
        refused.insert(0, CLUSTER)
    return (*refused, *(Finding(refuse=False, text=text) for applies, text in warnings if applies))
