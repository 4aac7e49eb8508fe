"""Accounts for the messages that a process holds: in memory, for many threads, without I/O."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from service.broker.delivery import Held

_REMEMBERED: Final = 10_000  # jobs: some seconds of a worker at its quickest, for 3 MB


@dataclass(slots=True)
class Ending:
    """What Redis is still to be told about a message: 'ack', or what Recovery.settle takes."""

    kind: str
    held: Held
    reason: str = ""
    sent_at: float | None = None


class Ledger:
    """Who is held, who has ended, who waits for a channel, and who was lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._tags: dict[tuple[str, str], str] = {}
        self._endings: OrderedDict[str, Ending] = OrderedDict()
        self._parked: dict[str, Held] = {}
        self._handed: dict[str, Any] = {}
        self._lost: dict[str, Held] = {}
        self._twins: dict[str, str] = {}  # tag whose job still runs → tag it came back under
        self._finished: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, held: Held, will_end_here: Callable[[str], bool]) -> bool:
        """Enter a delivery; whether its job is to be run."""
        with self._lock:
            self._held[held.tag] = held
            if held.key in self._finished:
                self._end("ack", held, "")
                return False
            before = self._tags.get(held.key)
        if before is not None and will_end_here(before):
            with self._lock:
                self._twins[before] = held.tag
            return False
        with self._lock:
            self._tags[held.key] = held.tag
        return True

    def let_go(self, tag: str, job: str) -> None:
        """Keep no message of a job that runs: Redis has it."""
        with self._lock:
            held = self._held.get(tag)
            if held is not None and tag not in self._endings:
                self._held[tag] = held.without_item(job)

    def settle(self, kind: str, tag: str, reason: str) -> None:
        """Enter how a delivery ended; the first word counts."""
        with self._lock:
            held = self._held.get(tag) or self._lost.pop(tag, None)
            if held is None or tag in self._endings:
                return
            self._end(kind, held, reason)
            twin = self._held.get(self._twins.pop(tag, ""))
            if twin is not None:
                self._end(kind, twin, reason)

    def bury_instead(self, ending: Ending, reason: str) -> None:
        """What was to go back is to be buried."""
        with self._lock:
            ending.kind, ending.reason = "bury", reason

    def is_open(self, tag: str) -> bool:
        """Whether the delivery is held and has not ended."""
        with self._lock:
            return tag in self._held and tag not in self._endings

    def is_lost(self, tag: str) -> bool:
        """Whether the delivery was lost and has not ended."""
        return tag in self._lost

    def endings(self) -> list[Ending]:
        """What is to be told."""
        with self._lock:
            return list(self._endings.values())

    def acks_to_send(self, limit: int, *, sent_before: float = 0.0) -> dict[str, bool]:
        """Tags of acks that were not sent, or before that moment and not confirmed since.

        They count as sent from now on. The values say which were sent before.
        """
        chosen: dict[str, bool] = {}
        with self._lock:
            for tag, ending in self._endings.items():
                if ending.kind == "ack" and (ending.sent_at or 0.0) <= sent_before:
                    chosen[tag] = ending.sent_at is not None
                    ending.sent_at = time.monotonic()
                    if len(chosen) == limit:
                        break
        return chosen

    def forget(self, tags: Iterable[str]) -> set[str]:
        """Redis knows how these ended; those of them that it was still to be told."""
        told: set[str] = set()
        with self._lock:
            for tag in tags:
                ending = self._endings.pop(tag, None)
                self._held.pop(tag, None)
                if ending is not None:
                    told.add(tag)
                    if self._tags.get(ending.held.key) == tag:
                        del self._tags[ending.held.key]
        return told

    def held(self) -> list[str]:
        """The tags to renew: also of what has ended, until Redis knows."""
        with self._lock:
            return list(self._held)

    def lose(self, tag: str) -> Held | None:
        """Redis no longer holds this for us; the delivery if its job has not ended here."""
        with self._lock:
            if tag in self._endings:
                return None
            held = self._held.pop(tag, None)
            if held is not None:
                self._parked.pop(tag, None)
                self._lost[tag] = held
            return held

    def park(self, tags: Iterable[str], handed: dict[str, Any]) -> None:
        """Keep deliveries for the next channel; `handed` to the pool are not to be delivered."""
        with self._lock:
            self._handed.update(handed)
            for tag in tags:
                held = self._held.get(tag)
                if held is not None and held.item and tag not in self._endings:
                    self._parked[tag] = held

    def unpark(self) -> list[Held]:
        """Take out what is parked."""
        if not self._parked:
            return []
        with self._lock:
            found = list(self._parked.values())
            self._parked.clear()
            return found

    def strays(self, known: set[str], may_still_run: Callable[[Any], bool]) -> set[str]:
        """What is held although neither `known`, nor parked, nor ended, nor in the pool's hands."""
        with self._lock:
            self._handed = {
                tag: request
                for tag, request in self._handed.items()
                if tag in self._held and may_still_run(request)
            }
            known = known | {*self._parked, *self._handed, *self._endings}
            self._lost = {tag: held for tag, held in self._lost.items() if tag in known}
            self._twins = {tag: twin for tag, twin in self._twins.items() if tag in known}
            return set(self._held) - known - set(self._twins.values())

    def _end(self, kind: str, held: Held, reason: str) -> None:
        self._parked.pop(held.tag, None)
        self._handed.pop(held.tag, None)
        self._endings[held.tag] = Ending(kind, held, reason)
        if kind == "ack":
            self._finished[held.key] = None
            if len(self._finished) > _REMEMBERED:
                self._finished.popitem(last=False)
