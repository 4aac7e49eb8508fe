"""Moves unacknowledged messages back to their queues, or too often delivered ones to the dead."""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from redis.exceptions import ResponseError

from service.broker import messages
from service.broker.delivery import Delivery, LeaseOptions
from service.broker.scripts import Expired, ExpiredPage, Move, Scripts
from service.redis.transient import TRANSIENT
from service.signals import Incident, note_incident

logger = logging.getLogger(__name__)

# Stores FAILURE for a message's job, for this reason; false if the job has ended well.
Fail = Callable[[bytes, str], bool]
_ANY: Final = "+inf"
_BATCH: Final = 200  # messages, which are in memory meanwhile


@dataclass(frozen=True, slots=True)
class Burial:
    """A delivery whose message is to be a dead letter, unless it was renewed after `max_score`."""

    delivery: Delivery
    reason: str
    max_score: str = _ANY


class Recovery:
    """Decides where a message goes that was not acknowledged, and moves it."""

    def __init__(self, scripts: Scripts, options: LeaseOptions, *, fail: Fail) -> None:
        self._scripts = scripts
        self._options = options
        self._fail = fail
        self._was_away = False
        self._not_before = 0.0
        self._unmovable: set[str] = set()
        self._burials: dict[str, Burial] = {}

    def interrupted_by(self, error: Exception) -> None:
        """This process was without Redis: leases may look expired although their owners live.

        Not so where Redis refused: a process that is refused everything cannot sweep either.
        """
        if not isinstance(error, ResponseError):
            self._was_away = True

    def sweep(self, mine: Collection[str]) -> bool:
        """Recover expired deliveries; after an outage not before their owners could renew them.

        Whether there are more: a sweep ends in time for the next one, as too long a gap between
        two counts as an outage.
        """
        until, passed, mine = time.monotonic() + self._options.pause, 0, frozenset(mine)
        while True:
            page = self._look(passed)
            left = [each for each in page.found if each.tag not in mine | self._burials.keys()]
            passed += page.stay - self._recover(left)
            if not page.has_more or time.monotonic() > until:
                return page.has_more

    def complete(self, deliveries: Sequence[Delivery]) -> Iterator[Delivery | None]:
        """The deliveries with the messages that were dropped; None where Redis has none either."""
        for start in range(0, len(deliveries), _BATCH):
            batch = deliveries[start : start + _BATCH]
            missing = [delivery.tag for delivery in batch if not delivery.message]
            records = dict(zip(missing, self._scripts.records(missing), strict=True))
            for delivery in batch:
                if delivery.message:
                    yield delivery
                elif (record := records[delivery.tag]) is not None:
                    yield self._read(Expired(delivery.tag, _ANY, record))
                else:
                    text = "Job %s is not held in Redis any more: nothing to move."
                    logger.warning(text, delivery.job)
                    yield None

    def put_back(self, delivery: Delivery, *, counted: bool, first: bool) -> Burial | bool:
        """Put back a delivery of ours, to the head of its queue if `first`; whether it was held.

        Gives a Burial in place of that if it cannot be read, or was `counted` once too often.
        """
        plan = self._plan(delivery, _ANY, counted=counted, first=first)
        if isinstance(plan, Burial):
            return plan
        (answer,) = self._scripts.restore([plan])
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def _plan(
        self, delivery: Delivery, max_score: str, *, counted: bool, first: bool
    ) -> Burial | Move:
        try:
            payload = messages.read_plain(delivery.message)
        except messages.UnreadableMessageError as error:
            return Burial(delivery, str(error), max_score)
        due = messages.due(payload)
        if due is not None and due > float(max_score) + self._options.lease:
            counted = False  # it was scheduled for a time at which its worker was gone
        count = messages.deliveries(payload) + counted
        if counted and count >= self._options.max_deliveries:
            reason = (
                f"The job was delivered {count} times and never came to an end:"
                " its workers died, or gave it back."
            )
            return Burial(delivery, reason, max_score)
        keys, again = self._scripts.keys, messages.redelivered(payload, count)
        target = messages.list_of(delivery.queue, payload, keys.priority_steps, keys.separator)
        return Move(delivery.tag, max_score, target, again, first)

    def burials(self) -> list[Burial]:
        """What sweeping has found to be buried."""
        return list(self._burials.values())

    def bury(self, burial: Burial) -> None:
        """Store FAILURE, however long that takes, and make the message a dead letter."""
        delivery, tag = burial.delivery, burial.delivery.tag
        if burial.max_score != _ANY:
            # It was found a while ago: its owner may have renewed it, another may have moved it.
            score = self._scripts.claim(tag, burial.max_score)
            if score is None:
                self._burials.pop(tag, None)
                return
            burial = self._burials[tag] = replace(burial, max_score=score)
        try:
            count = messages.deliveries(messages.read_plain(delivery.message)) + 1
        except messages.UnreadableMessageError:
            count = 1
        # The failure first: if this process dies in between, another one buries the message again;
        # the other way round its job would never end for those who wait for it.
        if not self._fail(delivery.message, burial.reason):
            # Its worker died between the result and the ack: the job has succeeded.
            self._scripts.acknowledge([tag])
        elif self._scripts.bury(delivery, burial.max_score, burial.reason, count):
            job = messages.job_id(delivery.message)
            what = f"Job {job}" if job else "A message"
            logger.error("%s is now a dead letter of %s: %s", what, delivery.queue, burial.reason)
            note_incident(Incident.BURIED)
        self._burials.pop(tag, None)

    def _look(self, passed: int) -> ExpiredPage:
        lease, stock = self._options.lease, self._options.stock
        page = self._scripts.expired(lease, stock, outage=lease / 3, start=passed, limit=_BATCH)
        if self._was_away:
            self._was_away = False
            self._not_before = time.monotonic() + lease
        return page if time.monotonic() >= self._not_before else ExpiredPage((), 0, has_more=False)

    def _recover(self, found: Iterable[Expired]) -> int:
        """Move or bury each; how many were moved."""
        planned: list[tuple[Delivery, Move]] = []
        for expired in found:
            try:
                if (delivery := self._read(expired)) is None:
                    continue
                plan = self._plan(delivery, expired.score, counted=True, first=True)
            except Exception as error:
                if isinstance(error, TRANSIENT) and not isinstance(error, ResponseError):
                    raise
                self._say_unmovable(expired.tag, error)
                continue
            if isinstance(plan, Burial):
                self._burials[delivery.tag] = plan
            else:
                planned.append((delivery, plan))
        moved = 0
        answers = self._scripts.restore([move for _, move in planned])
        for (delivery, _), answer in zip(planned, answers, strict=True):
            if isinstance(answer, ResponseError):
                self._say_unmovable(delivery.tag, answer)
            elif answer:
                moved += 1
                note_incident(Incident.RECOVERED)
                job, queue = messages.job_id(delivery.message), delivery.queue
                text = "The lease on job %s expired: its worker is gone. It is back in %s."
                logger.warning(text, job, queue)
        return moved

    def _say_unmovable(self, tag: str, error: Exception) -> None:
        """Whatever is in one message, or refused of it, the others are recovered. Said once."""
        if tag not in self._unmovable:
            self._unmovable.add(tag)
            logger.error("What is held as %s cannot be moved.", tag, exc_info=error)

    def _read(self, expired: Expired) -> Delivery | None:
        tag = expired.tag
        if "@" in tag:  # ours: [message,"",queue], with the message's own bytes inside
            head, _, tail = expired.record.rpartition(b',"",')
            return Delivery(tag, str(json.loads(tail[:-1])), head[1:], tag.rpartition("@")[0])
        try:
            payload, exchange, routing_key = json.loads(expired.record)
        except (ValueError, TypeError, RecursionError):
            logger.exception("What a stock worker holds as %s cannot be read.", tag)
            return None
        bound = self._scripts.bound_queue(exchange, routing_key) if exchange else routing_key
        if not bound:
            return None  # a topic: left to a stock worker, which knows the patterns
        return Delivery(tag, bound, json.dumps(payload).encode(), tag)
