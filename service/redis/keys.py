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
NO_START: Final = "-"  # stands for the start of an attempt where that is not known
TESTING: Final = "service:testing"  # tells that a database is one that tests may empty
_OPEN_TTL: Final = 31_536_000  # seconds: a year


@dataclass(frozen=True, slots=True)
class ResultKeys:
    """Keys beside the results. `prefix` begins those of Celery's backend, `own` those of ours.

    `ttl` is how many seconds the record of a job lives that has ended.
    """

    prefix: str = ""
    own: str = ""
    ttl: int = 86_400

    @property
    def open_ttl(self) -> int:
        """How many seconds an open job's record lives: its message may have been lost."""
        return max(self.ttl, _OPEN_TTL)

    def record(self, job_id: str) -> str:
        """A job's record, and the channel on which its changes are published."""
        return f"{self.prefix}{RECORD}{job_id}"

    def idempotency(self, task: str, key: str, owner: str | None = None) -> str:
        """What an idempotency key of an owner and a task stands for: `<job id> <fingerprint>`."""
        name = f"{task}\n{key}" + (f"\n{owner}" if owner else "")
        return f"{self.own}service-once-{sha256(name.encode(errors='surrogatepass')).hexdigest()}"

    def errbacks(self, job_id: str) -> str:
        """What tells that the errbacks of a job that ended are being called."""
        return f"{self.own}service-errbacks-{job_id}"

    def redelivered(self, job_id: str, what: str) -> str:
        """`suspect`: how often it was begun; `kept`: that a worker goes on with it meanwhile."""
        return f"{self.own}service:{what}:{job_id}"

    def attempts(self, job_id: str) -> str:
        """A list of the attempts of a job before its last one, as store.lua notes them."""
        return f"{self.own}service:attempts:{job_id}"

    def job_log(self, job_id: str, started_at: str) -> str:
        """A stream of the lines that the attempt which began then has logged."""
        return f"{self.own}service:log:{job_id}:{started_at}"

    def stack_answer(self, question: str) -> str:
        """A list with a worker's answer to the question where a job is just now."""
        return f"{self.own}service:stack:{question}"

    @property
    def job_logs(self) -> str:
        """The sorted set of such logs: the key of each by when it expires."""
        return f"{self.own}service:logs"

    @property
    def job_logs_bytes(self) -> str:
        """The hash of how many bytes each such log has, and under an empty name all of them."""
        return f"{self.own}service:logs:bytes"

    @property
    def journals(self) -> str:
        """The set of committed journals: each key by when it was last applied from."""
        return f"{self.own}service:journals"

    def journal(self, name: str) -> str:
        """A canvas that is sent as one: a list of batches of enqueue.lua's arguments."""
        return f"{self.own}service:journal:{name}"

    def charged(self, limit: str, caller: str) -> str:
        """When a caller's quota of a limit is whole again, in seconds since the epoch."""
        return f"{self.own}service:charged:{limit}:{_caller_digest(caller)}"

    def caller(self, caller: str) -> str:
        """What a caller has started and may have open, as enqueue.lua writes it."""
        return f"{self.own}service:caller:{_caller_digest(caller)}"

    def open_jobs(self, caller: str) -> str:
        """A list of the jobs that a caller may have open: `<bytes> <job id>`."""
        return f"{self.own}service:caller:{_caller_digest(caller)}:open"

    @property
    def tokens(self) -> str:
        """The hash of API tokens: what is known of each, by the SHA-256 of its text."""
        return f"{self.own}service:tokens"

    @property
    def tokens_seen(self) -> str:
        """The hash of when each API token was last in use, by the same."""
        return f"{self.own}service:tokens:seen"

    def signed_out(self, session: str) -> str:
        """What tells that a cookie of the dashboard was taken back, wherever it is."""
        return f"{self.own}service:signed-out:{session}"

    @property
    def audit(self) -> str:
        """The stream of what operators did: an entry for each act."""
        return f"{self.own}service:audit"

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

    @property
    def failures(self) -> str:
        """The dashboard's hash of failures: what jobs failed by one error, by the group's id."""
        return f"{self.own}service:failures"

    @property
    def failures_seen(self) -> str:
        """The dashboard's sorted set: a group of failures by when the last of it was."""
        return f"{self.own}service:failures:seen"

    def stats(self, bucket: int, seconds: int) -> str:
        """The dashboard's hash of counts of one bucket of time, which is so long."""
        return f"{self.own}service:stats:{seconds}:{bucket}"

    def report_mark(self, report: str) -> str:
        """What tells that a report of a recorder was taken."""
        return f"{self.own}service:reported:{report}"


def _caller_digest(caller: str) -> str:
    """A caller in the name of a key, which may be of any length otherwise."""
    return sha256(caller.encode(errors="replace")).hexdigest()[:24]


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
        ends = (f"{self.separator}{step}" if step else "" for step in self.priority_steps)
        return tuple(f"{self.prefix}{queue}{end}" for end in ends)

    def scheduled_of(self, queue: str) -> tuple[str, ...]:
        """The sorted sets of a queue's jobs that are not due yet; take.lua has them, too."""
        return tuple(f"{name}.scheduled" for name in self.lists_of(queue))

    @property
    def paused_queues(self) -> str:
        """The hash of paused queues: who has paused each, when and why; take.lua has it too."""
        return f"{self.prefix}{self.unacked}_paused"

    @property
    def paused_tasks(self) -> str:
        """The hash of paused tasks: who has paused each, when and why."""
        return f"{self.prefix}{self.unacked}_paused_tasks"

    @property
    def paused_lists(self) -> str:
        """The hash of the lists of paused tasks: beside which list each is."""
        return f"{self.prefix}{self.unacked}_paused_lists"

    def list_of_paused(self, list_: str, task: str) -> str:
        """The list of a paused task's messages from `list_`; of no task, of those to take."""
        length = len(list_.encode("utf-8", "surrogateescape"))  # so a:b, c is not a, b:c
        return f"{self.prefix}{self.unacked}_paused:{length}:{list_}:{task}"

    def cancelled(self, job_id: str) -> str:
        """What tells take.lua that a job is to be taken at once, as it was cancelled."""
        return f"{self.prefix}{self.unacked}_cancelled:{job_id}"

    def dead_letters_of(self, queue: str) -> str:
        """The list of a queue's dead letters."""
        return f"{self.prefix}{queue}.dead"

    def waiters_of(self, group: str) -> list[str]:
        """Of a group of like workers: who is active, and the tokens that wake those on standby."""
        return [f"{self.prefix}{self.unacked}_waiting:{group}:{end}" for end in ("doors", "wake")]

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
        str(options.get("unacked_key") or "unacked"),
        str(options.get("unacked_index_key") or "unacked_index"),
        str(options.get("global_keyprefix") or ""),
        str(options.get("sep") or SEPARATOR),
        tuple(options.get("priority_steps") or PRIORITY_STEPS),
    )
