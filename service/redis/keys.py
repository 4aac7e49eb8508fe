"""Names every key that this service, or Celery for it, has in Redis.

KEYS.md beside this module is the map of them: type, life and owner of each; tests fail on others.
Celery's and Kombu's own clients expect these names: changing one breaks a rolling upgrade.
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
