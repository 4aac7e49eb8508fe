"""Moves held messages: back to their queues, or to the dead letters when it was too often."""

import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from service.broker import messages
from service.broker.failures import TRANSIENT, Verdict
from service.broker.held import Held, LeaseOptions
from service.broker.scripts import Expired, Scripts

logger = logging.getLogger(__name__)

Fail = Callable[[bytes, str], Verdict]
_ANY: Final = "+inf"
_BATCH: Final = 100


class Recovery:
    """Decides where a message goes that has not been acknowledged. Used by one thread at a time."""

    def __init__(self, scripts: Scripts, options: LeaseOptions, *, fail: Fail) -> None:
        self._scripts = scripts
        self._options = options
        self._fail = fail
        self._swept_at = 0.0

    def is_due(self) -> bool:
        """Whether to sweep now."""
        return time.monotonic() - self._swept_at >= self._options.pause

    def sweep(self, mine: Collection[str]) -> None:
        """Move what nobody holds any more; nothing before owners had a full lease to renew."""
        lease, stock = self._options.lease, self._options.stock
        found = self._scripts.expired(lease, stock, outage=lease / 3, limit=_BATCH)
        trouble: Exception | None = None
        for expired in found:
            if expired.tag not in mine:
                try:
                    self._recover(expired)
                except TRANSIENT as error:
                    # Its failure cannot be stored now; the others need not wait for that.
                    trouble = error
        # A full batch means that there is more: go on with the next round.
        self._swept_at = time.monotonic() if len(found) < _BATCH or trouble else 0.0
        if trouble is not None:
            raise trouble

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

    def settle(self, kind: str, held: Held, reason: str) -> None:
        """Carry out how a message of our own ended: 'return', 'later', 'requeue' or 'bury'."""
        if kind == "bury":
            self._bury(held, _ANY, reason, counted=1)
        else:
            self._put_back(
                held, _ANY, counted=1 if kind == "requeue" else 0, first=kind == "return"
            )

    def _recover(self, expired: Expired) -> None:
        held = self._read(expired)
        if held is None:
            return
        if self._put_back(held, expired.score, counted=1, first=True):
            logger.warning(
                "The lease on job %s expired: its worker is gone. It is back in %s.",
                messages.job_id(held.item),
                held.queue,
            )

    def _put_back(self, held: Held, highest: str, *, counted: int, first: bool) -> bool:
        """Whether it is back in its queue; it may be a dead letter instead, or another's by now."""
        try:
            payload = messages.read(held.item)
        except messages.UnreadableMessageError as error:
            self._bury(held, highest, str(error), counted=counted)
            return False
        count = messages.deliveries(payload) + counted
        if counted and count >= self._options.max_deliveries:
            reason = (
                f"The job was delivered {count} times and never came to an end:"
                " its workers died, or gave it back."
            )
            self._bury(held, highest, reason, counted=counted)
            return False
        steps, separator = self._options.priority_steps, self._options.separator
        target = messages.list_of(held.queue, payload, steps, separator)
        again = messages.redelivered(payload, count)
        return self._scripts.restore(held.tag, highest, target, again, first=first)

    def _bury(self, held: Held, highest: str, reason: str, *, counted: int) -> None:
        try:
            count = messages.deliveries(messages.read(held.item)) + counted
        except messages.UnreadableMessageError:
            count = counted
        # The failure first: if we die in between, the message is buried again by somebody else;
        # the other way round its job would be waited for for ever.
        verdict = self._fail(held.item, reason)
        if verdict is Verdict.SUCCEEDED:
            # Its worker died between the result and the ack: there is nothing to be given up on.
            self._scripts.acknowledge([held.tag])
            return
        if verdict is Verdict.UNKNOWN and highest != _ANY:
            return  # it was not ours: a worker will find it too, and can tell
        if self._scripts.bury(held, highest, reason, count):
            job = messages.job_id(held.item)
            logger.error("Job %s is now a dead letter of %s: %s", job, held.queue, reason)

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
