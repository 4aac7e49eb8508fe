"""Keeps what this process holds: renews the leases, and tells Redis how each message ended.

One thread with a connection of its own does it, so that neither a busy event loop, nor a long
job, nor a shutdown, nor the loss of the consumer's connection can let a lease run out.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol
from weakref import WeakSet

from redis import Redis

from service.broker import messages, worker_state
from service.broker.failures import TRANSIENT
from service.broker.held import Held, LeaseOptions
from service.broker.ledger import Ending, Ledger
from service.broker.recovery import Recovery
from service.broker.scripts import Keys, Scripts

logger = logging.getLogger(__name__)

# How long an ack waits for the next take to carry it. A round trip saved is worth this much of
# the danger that a worker killed in between runs a finished job again.
_LINGER: Final = 0.005
# An ack that went with a take and was not confirmed for so long is sent again.
_CONFIRMED_WITHIN: Final = 1.0
_CHUNK: Final = 1000


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
        keys: Keys,
        options: LeaseOptions,
        *,
        fail: Callable[[bytes, str], None],
    ) -> None:
        self.options = options
        self.keys = keys
        self.scripts = Scripts(client, keys)
        self._client = client
        self._fail = fail
        self._ledger = Ledger()
        self._failures: deque[tuple[bytes, str]] = deque()
        self._telling = threading.Lock()
        self._holders: WeakSet[Holder] = WeakSet()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._suspects: set[str] = set()
        self._recovery = Recovery(self.scripts, options, fail=fail)
        self._renewed_at = float("-inf")
        self._away = False
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    @property
    def age(self) -> float:
        """Seconds since the leases were renewed; infinite if they never were."""
        return time.monotonic() - self._renewed_at

    def start(self) -> None:
        """Begin to renew and to recover."""
        self._thread.start()

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
        self._wake.set()
        return False

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

    def bury(self, tag: str, reason: str) -> None:
        """Make the message a dead letter and its job a FAILURE."""
        self._settle("bury", tag, reason)

    def is_open(self, tag: str) -> bool:
        """Whether this is held here and has not ended."""
        return self._ledger.is_open(tag)

    def explain(self, tag: str, reason: str) -> None:
        """Give a better reason for a burial that has not been made yet."""
        self._ledger.explain(tag, reason)

    def fail(self, item: bytes, reason: str) -> None:
        """Store FAILURE for a message that is a dead letter already."""
        self._failures.append((item, reason))
        self._wake.set()

    def park(self, tags: Iterable[str], requests: dict[str, Any]) -> None:
        """Keep what a lost channel was waiting with, for the next channel to deliver.

        `requests` are those that the pool was given and may still run.
        """
        self._ledger.park(tags, requests)

    def adopt(self, queues: Iterable[str]) -> list[Held]:
        """The parked messages of these queues: the caller delivers them now."""
        return self._ledger.unpark(set(queues))

    def pending_acks(self) -> tuple[str, ...]:
        """Acks for a take to carry; `confirm` those that Redis has then."""
        return self._ledger.acks_to_carry(_CHUNK)

    def confirm(self, tags: Iterable[str], late: Iterable[str]) -> None:
        """Redis has been told of these ends; `late` are those that it no longer held."""
        self._ledger.forget(tags)
        for tag in late:
            logger.warning("The lease on %s was lost before its job ended.", tag)

    def close(self, timeout: float) -> None:
        """Tell Redis what is still to be told, for at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._failures or self._ledger.endings():
            try:
                self._tell(everything=True)
            except TRANSIENT as error:
                logger.warning("Redis is away while the worker ends: %r", error)
                self._closed.wait(min(0.2, timeout / 4))
            if time.monotonic() > deadline:
                break

    def _settle(self, kind: str, tag: str, reason: str = "") -> None:
        self._ledger.settle(kind, tag, reason)
        self._wake.set()

    def _will_end_here(self, tag: str) -> bool:
        return tag in worker_state.running() or any(tag in h.holds() for h in list(self._holders))

    def _run(self) -> None:
        pause = 0.0
        while not self._closed.is_set():
            if self._wake.wait(pause):
                self._wake.clear()
                self._closed.wait(_LINGER)
            try:
                self._round()
            except TRANSIENT as error:
                self._on_outage(error)
                pause = min(0.5, self.options.lease / 10)
                self._closed.wait(pause)
            except Exception:
                # The thread that keeps the leases must outlive any mistake in it.
                logger.exception("A round of the leases' thread failed; it goes on.")
                pause = min(0.5, self.options.lease / 10)
                self._closed.wait(pause)
            else:
                if self._away:
                    logger.warning("Redis is back; what is held here is still leased.")
                self._away = False
                pause = self.options.lease / 6

    def _on_outage(self, error: BaseException) -> None:
        if not self._away:
            logger.warning("Redis is away; leases and acks are kept and tried again: %r", error)
        self._away = True
        self._recovery.interrupted()
        # The address behind a sentinel may have changed: connect anew.
        self._client.connection_pool.disconnect()

    def _round(self) -> None:
        if self._away or time.monotonic() - self._renewed_at >= self.options.lease / 3:
            self._renew()
        self._tell()
        if self._recovery.is_due():
            self._recovery.sweep(self._ledger.held())

    def _renew(self) -> None:
        self._return_strays()
        tags = self._ledger.held()
        lost: list[str] = []
        server_time = 0.0
        for start in range(0, max(len(tags), 1), _CHUNK):
            server_time, gone = self.scripts.renew(tags[start : start + _CHUNK])
            lost += gone
        self._renewed_at = time.monotonic()
        self._recovery.renewed(server_time)
        for tag in lost:
            if (held := self._ledger.lose(tag)) is not None:
                self._on_lost(held)

    def _on_lost(self, held: Held) -> None:
        job = messages.job_id(held.item)
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

    def _tell(self, *, everything: bool = False) -> None:
        """Tell Redis what has ended; what it could not be told stays to be told."""
        with self._telling:  # the thread, and a process that ends, must not do it twice
            before = float("inf") if everything else time.monotonic() - _CONFIRMED_WITHIN
            endings = self._ledger.endings(before)
            acks = [ending for ending in endings if ending.kind == "ack"]
            for start in range(0, len(acks), _CHUNK):
                self._tell_acks(acks[start : start + _CHUNK])
            for ending in endings:
                if ending.kind != "ack":
                    self._recovery.settle(ending.kind, ending.held, ending.reason)
                    self._ledger.forget([ending.held.tag])
            while self._failures:
                self._fail(*self._failures[0])
                self._failures.popleft()

    def _tell_acks(self, acks: list[Ending]) -> None:
        tags = [ending.held.tag for ending in acks]
        late = set(self.scripts.acknowledge(tags))
        # One that was sent before may have arrived: then it is no wonder that it is gone.
        late -= {ending.held.tag for ending in acks if ending.sent_at is not None}
        for ending in acks:
            ending.sent_at = ending.sent_at or time.monotonic()
        self.confirm(tags, late)
