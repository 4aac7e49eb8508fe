"""Moves held messages: back to their queues, or to the dead letters when it was too often."""

import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from redis.exceptions import ResponseError

from service.broker import messages
from service.broker.delivery import Held, LeaseOptions
from service.broker.scripts import Expired, Scripts
from service.redis.transient import TRANSIENT

logger = logging.getLogger(__name__)

Fail = Callable[[bytes, str], bool]
_ANY: Final = "+inf"
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Burial:
    """A message that is to be a dead letter, if its lease is no younger than `highest` says."""

    held: Held
    reason: str
    highest: str = _ANY


class Recovery:
    """Decides where a message goes that has not been acknowledged.

    One thread sweeps and another one buries: for that a result has to be written, and a result
    backend may block for as long as it likes.
    """

    def __init__(self, scripts: Scripts, options: LeaseOptions, *, fail: Fail) -> None:
        self._scripts = scripts
        self._options = options
        self._fail = fail
        self._was_away = False
        self._not_before = 0.0
        self._strange: set[str] = set()
        self._burials: dict[str, Burial] = {}

    def interrupted_by(self, error: Exception) -> None:
        """This process was without Redis: leases may look expired although their owners live.

        A refusal is none: whoever is refused everything cannot sweep either.
        """
        if not isinstance(error, ResponseError):
            self._was_away = True

    def sweep(self, mine: Collection[str]) -> bool:
        """Move what nobody holds any more, after an outage not before owners had a lease to renew.

        Whether there is more: it ends in time to sweep again, as too long a gap is an outage.
        """
        until = time.monotonic() + self._options.pause
        known = set(self._burials)
        while found := self._find(known):
            for expired in found:
                known.add(expired.tag)
                if expired.tag not in mine:
                    self._try_to_recover(expired)
                if time.monotonic() > until:
                    return True
        return False

    def complete(self, deliveries: Sequence[Held]) -> list[Held | None]:
        """The same with the messages that were let go of; None where Redis has lost it too."""
        missing = [held.tag for held in deliveries if not held.item]
        records = dict(zip(missing, self._scripts.records(missing), strict=True))
        found: list[Held | None] = []
        for held in deliveries:
            if held.item:
                found.append(held)
            elif (record := records[held.tag]) is not None:
                found.append(self._read(Expired(held.tag, _ANY, record)))
            else:
                logger.warning("Job %s is not held in Redis any more: nothing to move.", held.job)
                found.append(None)
        return found

    def put_back(self, kind: str, held: Held) -> Burial | None:
        """Carry out 'return', 'later' or 'requeue' of our own, unless it is to be buried."""
        counted = 1 if kind == "requeue" else 0
        outcome = self._put_back(held, _ANY, counted=counted, first=kind == "return")
        return outcome if isinstance(outcome, Burial) else None

    def burials(self) -> list[Burial]:
        """What was found to be buried by sweeping."""
        return list(self._burials.values())

    def bury(self, burial: Burial) -> None:
        """Store FAILURE, however long that takes, and make the message a dead letter."""
        tag = burial.held.tag
        if burial.highest != _ANY:
            # It was found a while ago: its owner may have renewed it, another may have moved it.
            score = self._scripts.claim(tag, burial.highest)
            if score is None:
                self._burials.pop(tag, None)
                return
            burial = self._burials[tag] = replace(burial, highest=score)
        self._give_up(burial)
        self._burials.pop(tag, None)

    def _give_up(self, burial: Burial) -> None:
        held = burial.held
        try:
            count = messages.deliveries(messages.read_plain(held.item)) + 1
        except messages.UnreadableMessageError:
            count = 1
        # The failure first: if we die in between, the message is buried again by somebody else;
        # the other way round its job would be waited for for ever.
        if not self._fail(held.item, burial.reason):
            # Its worker died between the result and the ack: there is nothing to be given up on.
            self._scripts.acknowledge([held.tag])
        elif self._scripts.bury(held, burial.highest, burial.reason, count):
            job = messages.job_id(held.item)
            what = f"Job {job}" if job else "A message"
            logger.error("%s is now a dead letter of %s: %s", what, held.queue, burial.reason)

    def _find(self, known: Collection[str]) -> list[Expired]:
        lease, stock = self._options.lease, self._options.stock
        found = self._scripts.expired(lease, stock, outage=lease / 3, limit=_BATCH, known=known)
        if self._was_away:
            self._was_away = False
            self._not_before = time.monotonic() + lease
        return found if time.monotonic() >= self._not_before else []

    def _try_to_recover(self, expired: Expired) -> None:
        try:
            self._recover(expired)
        except Exception as error:
            if isinstance(error, TRANSIENT) and not isinstance(error, ResponseError):
                raise
            # Whatever is in one message, or refused of it, the others are recovered. Said once.
            if expired.tag not in self._strange:
                self._strange.add(expired.tag)
                logger.exception("What is held as %s cannot be moved.", expired.tag)

    def _recover(self, expired: Expired) -> None:
        held = self._read(expired)
        if held is None:
            return
        outcome = self._put_back(held, expired.score, counted=1, first=True)
        if isinstance(outcome, Burial):
            self._burials[held.tag] = outcome
        elif outcome:
            logger.warning(
                "The lease on job %s expired: its worker is gone. It is back in %s.",
                messages.job_id(held.item),
                held.queue,
            )

    def _put_back(self, held: Held, highest: str, *, counted: int, first: bool) -> Burial | bool:
        """Whether the message is back in its queue, or why it is to be buried instead."""
        try:
            payload = messages.read_plain(held.item)
        except messages.UnreadableMessageError as error:
            return Burial(held, str(error), highest)
        due = messages.due(payload)
        if due is not None and due > float(highest) + self._options.lease:
            counted = 0  # it was scheduled for a time at which its worker was gone
        count = messages.deliveries(payload) + counted
        if counted and count >= self._options.max_deliveries:
            reason = (
                f"The job was delivered {count} times and never came to an end:"
                " its workers died, or gave it back."
            )
            return Burial(held, reason, highest)
        steps, separator = self._options.priority_steps, self._options.separator
        target = messages.list_of(held.queue, payload, steps, separator)
        again = messages.redelivered(payload, count)
        return self._scripts.restore(held.tag, highest, target, again, first=first)

    def _read(self, expired: Expired) -> Held | None:
        if "@" in expired.tag:  # ours: [message,"",queue], with the message's own bytes inside
            head, _, tail = expired.held.rpartition(b',"",')
            queue = str(json.loads(tail[:-1]))
            return Held(expired.tag, queue, head[1:], expired.tag.rpartition("@")[0])
        try:
            payload, exchange, routing_key = json.loads(expired.held)
        except (ValueError, TypeError, RecursionError):
            logger.exception("What a stock worker holds as %s cannot be read.", expired.tag)
            return None
        bound = self._scripts.bound_queue(exchange, routing_key) if exchange else routing_key
        if not bound:
            return None  # a topic: left to a stock worker, which knows the patterns
        return Held(expired.tag, bound, json.dumps(payload).encode(), expired.tag)
