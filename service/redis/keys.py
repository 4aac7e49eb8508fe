"""Names every key that this service, or Celery for it, has in Redis: the map of what lies there.

`KINDS` says of each its type, how long it lives and which room owns it; tests fail on a key that no
kind describes, and on one that lives longer than its kind says. Names and values are what Celery's
and Kombu's own clients expect, or lie beside these; changing one breaks a rolling upgrade.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from service.settings import Settings

# Celery's own name for the record of a job (BaseKeyValueStoreBackend.task_keyprefix).
RECORD: Final = "celery-task-meta-"
# Kombu's defaults for what stands between a queue's name and a priority, and for the priorities.
SEPARATOR: Final = "\x06\x16"
PRIORITY_STEPS: Final = (0, 3, 6, 9)


@dataclass(frozen=True, slots=True)
class ResultKeys:
    """Keys beside the results. `prefix` begins those of Celery's backend, `own` those of ours.

    `ttl` is how many seconds a record lives.
    """

    prefix: str = ""
    own: str = ""
    ttl: int = 86_400

    def record(self, job_id: str) -> str:
        """A job's record, and the channel on which its changes are published."""
        return f"{self.prefix}{RECORD}{job_id}"

    def idempotency(self, task: str, key: str) -> str:
        """What an idempotency key of a task stands for: `<job id> <fingerprint>`."""
        digest = sha256(f"{task}\n{key}".encode()).hexdigest()
        return f"{self.own}service-once-{digest}"

    @property
    def recent_jobs(self) -> str:
        """The dashboard's stream: `n` counts the events so far, `rows` has some of them."""
        return f"{self.own}service:recent-jobs"

    @property
    def workers(self) -> str:
        """The dashboard's hash from a worker's name to its WorkerStatus."""
        return f"{self.own}service:workers"

    @property
    def workers_seen(self) -> str:
        """The dashboard's sorted set: a worker's name by when it last reported."""
        return f"{self.own}service:workers:seen"

    def stats(self, bucket: int) -> str:
        """The dashboard's hash of counts of one bucket of time."""
        return f"{self.own}service:stats:{bucket}"

    def report_mark(self, report: str) -> str:
        """What tells that a report of a recorder was taken."""
        return f"{self.own}service:reported:{report}"


@dataclass(frozen=True, slots=True)
class BrokerKeys:
    """Keys beside the queues; `prefix` (Kombu's `global_keyprefix`) begins all of them."""

    unacked: str = "unacked"
    index: str = "unacked_index"
    prefix: str = ""
    separator: str = SEPARATOR
    priority_steps: tuple[int, ...] = PRIORITY_STEPS

    @property
    def in_flight(self) -> list[str]:
        """Kombu's own two keys: the deliveries, and since when each is held."""
        return [self.prefix + self.unacked, self.prefix + self.index]

    @property
    def sweeps(self) -> str:
        """Since when somebody has always looked for expired leases."""
        return f"{self.prefix}{self.unacked}_sweeps"

    def list_of(self, queue: str) -> str:
        """The list that a queue (or one priority of it, as Kombu names that) is."""
        return self.prefix + queue

    def lists_of(self, queue: str) -> tuple[str, ...]:
        """The lists of a queue's waiting messages, one for each priority."""
        name = self.prefix + queue
        return tuple(
            f"{name}{self.separator}{step}" if step else name for step in self.priority_steps
        )

    def dead_letters_of(self, queue: str) -> str:
        """The list of a queue's dead letters."""
        return f"{self.prefix}{queue}.dead"

    def waiters_of(self, group: str) -> list[str]:
        """Of a group of like workers: who is active, and the tokens that wake those on standby."""
        stem = f"{self.prefix}{self.unacked}_waiting:{group}"
        return [f"{stem}:doors", f"{stem}:wake"]

    def publish_mark(self, tag: str, queue: str) -> str:
        """What tells that a publish was done, so that its retry adds no second message."""
        return f"{self.prefix}put:{tag}:{queue}"

    def bindings_of(self, exchange: str) -> str:
        """Kombu's table of the queues that are bound to an exchange."""
        return f"{self.prefix}_kombu.binding.{exchange}"

    @property
    def scratch(self) -> str:
        """A key to try commands on: the user may have rights to keys of a prefix only."""
        return f"{self.prefix}{self.unacked}_waiting:check"


def result_keys(settings: Settings) -> ResultKeys:
    """The keys beside the results, as Celery's backend makes them from its settings.

    Where only the broker has a prefix, it begins our own keys too: of two services that share a
    Redis, results do not meet, for ids differ, but these would.
    """
    options = settings.celery.get("result_backend_transport_options") or {}
    prefix = str(options.get("global_keyprefix") or "")
    prefix = f"{prefix}_" if prefix and prefix[-1] not in ":_-." else prefix
    own = prefix or broker_keys(settings.celery).prefix
    return ResultKeys(prefix, own, settings.result_expires)


def broker_keys(celery: Mapping[str, Any]) -> BrokerKeys:
    """The keys beside the queues, by Celery's `broker_transport_options`."""
    options = celery.get("broker_transport_options") or {}
    return BrokerKeys(
        unacked=str(options.get("unacked_key") or "unacked"),
        index=str(options.get("unacked_index_key") or "unacked_index"),
        prefix=str(options.get("global_keyprefix") or ""),
        separator=str(options.get("sep") or SEPARATOR),
        priority_steps=tuple(options.get("priority_steps") or PRIORITY_STEPS),
    )


@dataclass(frozen=True, slots=True)
class KeyKind:
    """One kind of key: the form of its name without a prefix, its Redis type, how long it lives."""

    pattern: str
    type: str  # '*' where it may be any
    ttl: str  # "until …" where it has none
    owner: str
    meaning: str


KINDS: Final = (
    KeyKind(rf"{RECORD}.+", "string", "SERVICE_RESULT_EXPIRES", "results", "a job's record"),
    KeyKind(r"celery-taskset-meta-.+", "*", "SERVICE_RESULT_EXPIRES", "Celery", "group or chord"),
    KeyKind(r"service-once-\w{64}", "string", "twice that", "jobs", "an idempotency key's job"),
    KeyKind(r"service:recent-jobs", "stream", "SERVICE_RESULT_EXPIRES", "dashboard", "recent jobs"),
    KeyKind(r"service:workers", "hash", "3600 s", "dashboard", "how each worker is"),
    KeyKind(r"service:workers:seen", "zset", "3600 s", "dashboard", "when each worker reported"),
    KeyKind(r"service:stats:\d+", "hash", "3720 s", "dashboard", "counts of ten seconds"),
    KeyKind(r"service:reported:\w+", "string", "60 s", "dashboard", "a report was taken"),
    KeyKind(r"unacked", "hash", "until acknowledged", "Kombu", "deliveries by tag"),
    KeyKind(r"unacked_index", "zset", "until acknowledged", "Kombu", "held since when, by tag"),
    KeyKind(r"unacked_mutex", "string", "300 s", "Kombu", "the stock worker that restores"),
    KeyKind(r"unacked_sweeps", "hash", "a third of a lease", "broker", "since when some sweep"),
    KeyKind(r"unacked_waiting:\w+:doors", "zset", "3 s", "broker", "active waiters of a group"),
    KeyKind(r"unacked_waiting:\w+:wake", "list", "5 s", "broker", "tokens for those on standby"),
    KeyKind(r"unacked_waiting:check", "string", "5 s", "broker", "tried at start"),
    KeyKind(r"put:.+:.+", "string", "120 s", "broker", "a publish was done"),
    KeyKind(
        r"_kombu\.binding(_permanent)?\..+",
        "set",
        "until unbound",
        "Kombu",
        "queues of an exchange",
    ),
    KeyKind(r"_kombu\.binding_deadlines", "*", "until unbound", "Kombu", "bindings that end"),
    KeyKind(r".+\.reply\.celery\.pidbox", "list", "10 s", "Kombu", "answers to `inspect`"),
    KeyKind(r".+\.dead", "list", "until replayed or dropped", "broker", "dead letters of a queue"),
    KeyKind(r".+?(\x06\x16\d+)?", "list", "until taken", "Kombu", "a queue, or one priority"),
)
