"""Keeps what this process holds: renews the leases, and tells Redis how each message ended.

Threads with connections of their own do it, so that neither a busy event loop, nor a long job,
nor a shutdown, nor the loss of the consumer's connection can let a lease run out. One renews and
acknowledges. One moves messages, of other processes too if a worker runs here. One buries them,
for which it has to write results, and a result backend may block for as long as it likes.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, Protocol
from weakref import WeakSet

from redis import Redis

from service.broker import celery_worker as worker_state
from service.broker import messages
from service.broker.delivery import Held, LeaseOptions
from service.broker.leases.in_flight import Ending, Ledger
from service.broker.leases.periodic_thread import Tending
from service.broker.leases.quarantine import Trial
from service.broker.leases.recovery import Burial, Fail, Recovery
from service.broker.scripts import Scripts, Taken
from service.redis.keys import BrokerKeys
from service.redis.transient import TRANSIENT

logger = logging.getLogger(__name__)

# How long an ack waits for the next take to carry it. A round trip saved is worth this much of
# the danger that a worker killed in between runs a finished job again.
_LINGER: Final = 0.005
# An ack that went with a take and was not confirmed for so long is sent again.
_CONFIRMED_WITHIN: Final = 1.0
_CHUNK: Final = 1000
_MOVED_AT_ONCE: Final = 100  # messages, which are in memory meanwhile


class Holder(Protocol):
    """A consumer channel's account of what it was given and has not ended."""

    def holds(self) -> set[str]:
        """The tags."""
        ...


class Leases:
    """Everything that this process holds on one broker. All methods are safe in any thread."""

    def __init__(
        self,
        client: Redis,
        keys: BrokerKeys,
        options: LeaseOptions,
        *,
        fail: Fail,
    ) -> None:
        self.options = options
        self.keys = keys
        self.scripts = Scripts(client, keys)
        self._client = client
        self._ledger = Ledger()
        self._telling = threading.Lock()
        self._moving = threading.Lock()
        self._holders: WeakSet[Holder] = WeakSet()
        self._suspects: set[str] = set()
        self.trial = Trial(options, self.is_open)
        self._recovery = Recovery(self.scripts, options, fail=fail)
        self._renew_now = True
        self._renewed_at = time.monotonic()
        pause = options.pause
        self._keeping = Tending(
            "leases", self._keep, pause=pause, linger=_LINGER, on_outage=self._on_outage
        )
        self._recovering = Tending(
            "recovery", self._recover, pause=pause, on_outage=self._recovery.interrupted_by
        )
        self._burying = Tending("burying", self._bury, pause=pause)

    @property
    def age(self) -> float:
        """Seconds since the leases were renewed, or since there are any."""
        return time.monotonic() - self._renewed_at

    def start(self) -> None:
        """Begin to renew and to recover."""
        for thread in (self._keeping, self._recovering, self._burying):
            thread.start()

    def attach(self, holder: Holder) -> None:
        """Know a channel that delivers what is held here."""
        self._holders.add(holder)

    def hold(self, held: Held) -> bool:
        """Take charge of a message that Redis says we hold; whether its job is to be run.

        It is not, if it was done here and only the ack was lost, or if it is being done here
        since before its lease was lost: the end of that run then ends this delivery too.
        """
        if self._ledger.add(held, self._will_end_here):
            return True
        logger.warning("Job %s came back; it is not run again here.", messages.job_id(held.item))
        self._keeping.wake()
        return False

    def keep(self, taken: Taken) -> Taken:
        """What of a take is still ours. To be asked where its answer was read late.

        The process may have been frozen meanwhile, and the jobs may run elsewhere by now.
        """
        lost = self.scripts.renew([tag for _, tag, _ in taken.messages])
        for tag in lost:
            logger.warning("The lease on %s was lost before its job began.", tag)
        return replace(taken, messages=tuple(m for m in taken.messages if m[1] not in lost))

    def began(self, tag: str, job: str) -> None:
        """The job runs: its message is only needed in Redis from now on."""
        self._ledger.let_go(tag, job)

    def acknowledge(self, tag: str) -> None:
        """The job has ended; Redis is told with the next take, or within milliseconds."""
        self._settle("ack", tag)

    def requeue(self, tag: str) -> None:
        """Put the message back, counting the delivery; too many make it a dead letter."""
        self._settle("requeue", tag)

    def give_back(self, tags: Iterable[str]) -> None:
        """Put messages back to the head of their queues as if they had not been delivered."""
        for tag in tags:
            self._settle("return", tag)

    def put_off(self, tags: Iterable[str]) -> None:
        """Put messages to the end of their queues as if they had not been delivered, and wait.

        Until Redis knows, the end of this process would count against them.
        """
        for tag in tags:
            self._settle("later", tag)
        try:
            self._move()
        except TRANSIENT as error:
            logger.warning("Jobs that are to run later could not be put back yet: %r", error)

    def bury(self, tag: str, reason: str) -> None:
        """Make the message a dead letter and its job a FAILURE."""
        self._settle("bury", tag, reason)

    def is_open(self, tag: str) -> bool:
        """Whether this is held here and has not ended."""
        return self._ledger.is_open(tag)

    def is_lost(self, tag: str) -> bool:
        """Whether Redis no longer holds this for us."""
        return self._ledger.is_lost(tag)

    def park(self, tags: Iterable[str], requests: dict[str, Any]) -> None:
        """Keep what a lost channel was waiting with, for the next channel to deliver.

        `requests` are those that the pool was given and may still run.
        """
        self._ledger.park(tags, requests)

    def adopt(self, queues: Iterable[str]) -> list[Held]:
        """The parked messages of these queues: the caller delivers them now.

        Those of others, which nobody here consumes any more, go back.
        """
        parked, wanted = self._ledger.unpark(), set(queues)
        self.give_back([held.tag for held in parked if held.queue not in wanted])
        return [held for held in parked if held.queue in wanted]

    def pending_acks(self) -> tuple[str, ...]:
        """Acks for a take to carry; `confirm` those that Redis has then."""
        return tuple(self._ledger.acks_to_send(_CHUNK))

    def confirm(self, tags: Iterable[str], late: Iterable[str]) -> None:
        """Redis has been told of these ends; `late` are those that it no longer held."""
        told = self._ledger.forget(tags)
        for tag in told.intersection(late):  # what was known already may have been told twice
            logger.warning("The lease on %s was lost before its job ended.", tag)

    def close(self, timeout: float) -> None:
        """Tell Redis what is still to be told, for about `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        while self._ledger.endings():
            try:
                self._tell_acks(float("inf"))
                self._move()
            except TRANSIENT as error:
                logger.warning("Redis is away while the worker ends: %r", error)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)

    def _settle(self, kind: str, tag: str, reason: str = "") -> None:
        self._ledger.settle(kind, tag, reason)
        self._who_does(kind).wake()

    def _who_does(self, kind: str) -> Tending:
        return {"ack": self._keeping, "bury": self._burying}.get(kind, self._recovering)

    def _will_end_here(self, tag: str) -> bool:
        return tag in worker_state.running() or any(tag in h.holds() for h in list(self._holders))

    def _on_outage(self, error: Exception) -> None:
        self._renew_now = True
        self._recovery.interrupted_by(error)
        # The address behind a sentinel may have changed: connect anew.
        self._client.connection_pool.disconnect()

    def _keep(self) -> None:
        due_at = self._renewed_at + self.options.lease / 3 - self.options.pause
        if self._renew_now or time.monotonic() >= due_at:
            self._renew()
        self._tell_acks(time.monotonic() - _CONFIRMED_WITHIN)

    def _recover(self) -> None:
        try:
            self._move()
        finally:
            # Whoever only asks something on this broker, as `celery inspect` does, moves nothing.
            if worker_state.is_worker():
                if self._recovery.sweep(self._ledger.held()):
                    self._recovering.wake()
                if self._recovery.burials():
                    self._burying.wake()

    def _renew(self) -> None:
        self._return_strays()
        tags = self._ledger.held()
        lost: list[str] = []
        for start in range(0, max(len(tags), 1), _CHUNK):
            lost += self.scripts.renew(tags[start : start + _CHUNK])
        self._renewed_at, self._renew_now = time.monotonic(), False
        for tag in lost:
            if (held := self._ledger.lose(tag)) is not None:
                self._on_lost(held)

    def _on_lost(self, held: Held) -> None:
        job = held.job or messages.job_id(held.item)
        logger.error("The lease on job %s (%s) is LOST: it may run elsewhere too.", job, held.tag)
        if self.options.on_lost is not None:
            self.options.on_lost(held.tag, job)

    def _return_strays(self) -> None:
        """Give back what is held here although nothing here will ever end it."""
        known = worker_state.running()
        for holder in list(self._holders):
            known |= holder.holds()
        strays = self._ledger.strays(known, worker_state.may_still_run)
        for tag in strays & self._suspects:  # seen twice: not merely between two hands
            logger.warning("Nobody here works on %s any more; it goes back to its queue.", tag)
            self._settle("return", tag)
        self._suspects = strays

    def _tell_acks(self, sent_before: float) -> None:
        """Tell Redis what is done; what it could not be told stays to be told."""
        with self._telling:  # the thread, and a process that ends, must not do it twice
            while acks := self._ledger.acks_to_send(_CHUNK, sent_before=sent_before):
                late = self.scripts.acknowledge(list(acks))
                # One that was sent before may have arrived: then it is no wonder that it is gone.
                self.confirm(acks, [tag for tag in late if not acks[tag]])

    def _move(self) -> None:
        """Put messages where they belong that have not ended well."""
        trouble: Exception | None = None
        with self._moving:
            moves = [e for e in self._ledger.endings() if e.kind not in {"ack", "bury"}]
            for start in range(0, len(moves), _MOVED_AT_ONCE):
                chunk = moves[start : start + _MOVED_AT_ONCE]
                found = self._recovery.complete([ending.held for ending in chunk])
                for ending, held in zip(chunk, found, strict=True):
                    try:
                        self._put_back(ending, held)
                    except TRANSIENT as error:
                        trouble = error  # it may be the one message's only
        if trouble is not None:
            raise trouble

    def _put_back(self, ending: Ending, held: Held | None) -> None:
        try:
            burial = self._recovery.put_back(ending.kind, held) if held else None
        except TRANSIENT:
            raise
        except Exception as error:
            logger.exception("What is held as %s cannot be put back.", ending.held.tag)
            burial = Burial(ending.held, f"The message cannot be put back: {error!r}"[:1000])
        if burial is None:
            self._ledger.forget([ending.held.tag])
        else:
            self._ledger.bury_instead(ending, burial.reason)
            self._burying.wake()

    def _bury(self) -> None:
        """Make dead letters, and failures of their jobs, of what is ours and of what was found."""
        trouble: Exception | None = None
        for ending in self._ledger.endings():
            if ending.kind == "bury":
                try:
                    (held,) = self._recovery.complete([ending.held])
                    if held is not None:
                        self._recovery.bury(Burial(held, ending.reason))
                    self._ledger.forget([ending.held.tag])
                except TRANSIENT as error:
                    trouble = error  # it may be the one message's only
        for burial in self._recovery.burials():
            try:
                self._recovery.bury(burial)
            except TRANSIENT as error:
                trouble = error
        if trouble is not None:
            raise trouble
