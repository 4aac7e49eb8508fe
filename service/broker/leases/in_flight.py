"""Accounts for the deliveries of a process: in memory, for many threads, without I/O."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from service.broker.delivery import Delivery

CHUNK: Final = 1000  # tags in one call
_REMEMBERED: Final = 10_000  # jobs: some seconds of a worker at its quickest, for 3 MB


class Outcome(Enum):
    """What becomes of a delivery."""

    ACK = "acknowledged: its job has ended"
    REQUEUE = "back to its queue, counted; too many make it a dead letter"
    RETURN = "back to the head of its queue as if it had not been made"
    DEFER = "back to the end of its queue as if it had not been made"
    BURY = "a dead letter, and its job a FAILURE"


@dataclass(slots=True)
class Disposition:
    """What Redis is still to be told about a delivery."""

    outcome: Outcome
    delivery: Delivery
    reason: str = ""
    sent_at: float | None = None


class InFlight:
    """Which deliveries are held, have ended, wait for a channel, or were lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deliveries: dict[str, Delivery] = {}
        self._tags: dict[tuple[str, str], str] = {}
        self._dispositions: OrderedDict[str, Disposition] = OrderedDict()
        self._parked: dict[str, Delivery] = {}
        self._in_pool: dict[str, Any] = {}  # requests that outlive their channel
        self._lost: dict[str, Delivery] = {}
        self._redelivered: dict[str, str] = {}  # tag whose job still runs → tag it came back under
        self._finished: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, delivery: Delivery, will_end_here: Callable[[str], bool]) -> bool:
        """Enter a delivery; whether its job is to be run."""
        with self._lock:
            self._deliveries[delivery.tag] = delivery
            if delivery.key in self._finished:
                self._end(Outcome.ACK, delivery, "")
                return False
            before = self._tags.get(delivery.key)
        if before is not None and will_end_here(before):
            with self._lock:
                self._redelivered[before] = delivery.tag
            return False
        with self._lock:
            self._tags[delivery.key] = delivery.tag
        return True

    def drop_message(self, tag: str, job: str) -> None:
        """Keep no message of a job that runs: Redis has it."""
        with self._lock:
            delivery = self._deliveries.get(tag)
            if delivery is not None and tag not in self._dispositions:
                queue, ident = delivery.queue, delivery.ident
                self._deliveries[tag] = Delivery(tag, queue, b"", ident, job)

    def dispose(self, outcome: Outcome, tag: str, reason: str) -> None:
        """Enter how a delivery ended; the first outcome counts."""
        with self._lock:
            delivery = self._deliveries.get(tag) or self._lost.pop(tag, None)
            if delivery is None or tag in self._dispositions:
                return
            self._end(outcome, delivery, reason)
            again = self._deliveries.get(self._redelivered.pop(tag, ""))
            if again is not None:
                self._end(outcome, again, reason)

    def bury_instead(self, disposition: Disposition, reason: str) -> None:
        """Bury what was to go back to its queue."""
        with self._lock:
            disposition.outcome, disposition.reason = Outcome.BURY, reason

    def is_open(self, tag: str) -> bool:
        """Whether the delivery is held and has not ended."""
        with self._lock:
            return tag in self._deliveries and tag not in self._dispositions

    def has_begun(self, tag: str) -> bool:
        """Whether the delivery is held, and its job was begun."""
        with self._lock:
            delivery = self._deliveries.get(tag)
            return delivery is not None and delivery.job is not None

    def is_lost(self, tag: str) -> bool:
        """Whether the delivery was lost and has not ended."""
        return tag in self._lost

    def dispositions(self) -> list[Disposition]:
        """What Redis is still to be told."""
        with self._lock:
            return list(self._dispositions.values())

    def acks_to_send(self, limit: int = CHUNK, *, sent_before: float = 0.0) -> dict[str, bool]:
        """Tags of acks that were never sent, or were sent before `sent_before` and not confirmed.

        They count as sent from now on. The values say which were sent before.
        """
        chosen: dict[str, bool] = {}
        with self._lock:
            for tag, disposition in self._dispositions.items():
                if (
                    disposition.outcome is Outcome.ACK
                    and (disposition.sent_at or 0.0) <= sent_before
                ):
                    chosen[tag] = disposition.sent_at is not None
                    disposition.sent_at = time.monotonic()
                    if len(chosen) == limit:
                        break
        return chosen

    def forget(self, tags: Iterable[str]) -> set[str]:
        """Redis knows how these ended; the tags among them that it was still to be told."""
        forgotten: set[str] = set()
        with self._lock:
            for tag in tags:
                disposition = self._dispositions.pop(tag, None)
                self._deliveries.pop(tag, None)
                if disposition is not None:
                    forgotten.add(tag)
                    if self._tags.get(disposition.delivery.key) == tag:
                        del self._tags[disposition.delivery.key]
        return forgotten

    def tags(self) -> list[str]:
        """The tags to renew: also of what has ended, until Redis knows."""
        with self._lock:
            return list(self._deliveries)

    @property
    def count(self) -> int:
        """How many deliveries have not ended here."""
        return len(self._deliveries) - len(self._dispositions)

    def lose(self, tag: str) -> Delivery | None:
        """Redis no longer holds this for us; the delivery if its job has not ended here."""
        with self._lock:
            if tag in self._dispositions:
                return None
            delivery = self._deliveries.pop(tag, None)
            if delivery is not None:
                self._parked.pop(tag, None)
                self._lost[tag] = delivery
            return delivery

    def park(self, tags: Iterable[str], in_pool: dict[str, Any]) -> None:
        """Keep deliveries for the next channel, except for the requests that are `in_pool`."""
        with self._lock:
            self._in_pool.update(in_pool)
            for tag in tags:
                delivery = self._deliveries.get(tag)
                if delivery is not None and delivery.message and tag not in self._dispositions:
                    self._parked[tag] = delivery

    def unpark(self) -> list[Delivery]:
        """Take out what is parked."""
        if not self._parked:
            return []
        with self._lock:
            found, self._parked = self._parked, {}
            return list(found.values())

    def orphans(self, known: set[str], may_still_run: Callable[[Any], bool]) -> set[str]:
        """Tags that are held, but neither `known`, nor parked, nor ended, nor in the pool."""
        with self._lock:
            self._in_pool = {
                tag: request
                for tag, request in self._in_pool.items()
                if tag in self._deliveries and may_still_run(request)
            }
            known = known | {*self._parked, *self._in_pool, *self._dispositions}
            self._lost = {tag: lost for tag, lost in self._lost.items() if tag in known}
            self._redelivered = {old: new for old, new in self._redelivered.items() if old in known}
            return set(self._deliveries) - known - set(self._redelivered.values())

    def _end(self, outcome: Outcome, delivery: Delivery, reason: str) -> None:
        self._parked.pop(delivery.tag, None)
        self._in_pool.pop(delivery.tag, None)
        self._dispositions[delivery.tag] = Disposition(outcome, delivery, reason)
        if outcome is Outcome.ACK:
            self._finished[delivery.key] = None
            if len(self._finished) > _REMEMBERED:
                self._finished.popitem(last=False)
