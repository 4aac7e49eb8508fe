"""Bounds how many suspects run at once: jobs that were delivered before and did not end.

RabbitMQ counts a delivery more for all that a worker had when it died: for the job that ended it,
for those that ran beside it and for those that waited. So Redis counts how often a suspect was
begun, by which burying tells them apart. As on Redis (broker/leases/quarantine.py) a process begins
with one suspect, and has room for two more for each that has ended or has done no harm for a
lease. Runs in the consumer's thread.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from service.broker import celery_worker
from service.broker.messages import DELIVERIES
from service.jobs.celery.app import QuartCelery
from service.redis.transient import TRANSIENT
from service.worker.rabbitmq.starts import Starts

logger: Final = logging.getLogger(__name__)

_PAUSE: Final = 0.1  # seconds until it is looked whether the next one may begin
_HARMLESS_AFTER: Final = 30.0  # seconds


class _Held(NamedTuple):
    message: Any
    handle: Callable[[Any], object]


class _Begun(NamedTuple):
    message: Any
    until: float
    is_last: bool  # its next death would be its last


class Suspects:
    """Those of one consumer; `call_after` is its timer's."""

    def __init__(self, celery: QuartCelery, call_after: Callable[..., Any]) -> None:
        self._starts = Starts(celery)
        self._call_after = call_after
        self._held: deque[_Held] = deque()
        self._begun: list[_Begun] = []
        self._room = 1
        self._is_waiting = False

    def handle(self, message: Any, handle: Callable[[Any], object]) -> None:
        """Have Celery handle a message: now, or if it is a suspect when there is room for it."""
        if deliveries_before(message.headers) < self._starts.suspect_after:
            handle(message)
        else:
            self._held.append(_Held(message, handle))
            if not self._is_waiting:
                self._begin()

    def clear(self) -> None:
        """Forget all: the channel is lost, and RabbitMQ delivers them again."""
        self._held.clear()
        self._begun.clear()
        self._room = 1

    def _begin(self) -> None:
        self._is_waiting = False
        self._look()
        while self._held:
            try:
                if not self._begin_next():
                    break
            except TRANSIENT as error:
                logger.warning("No suspect is begun while Redis is away: %s", error)
                break
        if self._held:
            self._is_waiting = True
            self._call_after(_PAUSE, self._begin)

    def _look(self) -> None:
        now, begun = time.monotonic(), []
        for each in self._begun:
            if each.message.acknowledged or now >= each.until:
                self._room += 1
            else:
                begun.append(each)
        self._begun = begun

    def _begin_next(self) -> bool:
        """Begin the first that waits, or give it up; whether there was room for it."""
        message, handle = self._held[0]
        job_id = str(message.headers.get("id"))
        starts = self._starts.of(job_id)
        if starts >= self._starts.enough:
            self._held.popleft()
            message.reject()  # RabbitMQ makes it a dead letter
            return True
        is_last = starts == self._starts.enough - 1
        if celery_worker.jobs_share_a_process():
            others = any(each.is_last for each in self._begun)
            if len(self._begun) >= self._room or (is_last and others):
                return False
            self._begun.append(_Begun(message, time.monotonic() + _HARMLESS_AFTER, is_last))
        self._starts.note(job_id)
        self._held.popleft()
        handle(message)
        return True


def deliveries_before(headers: Any) -> int:
    """How often RabbitMQ has delivered the message before, and before burying put it back."""
    found = [headers.get(name, 0) for name in ("x-delivery-count", DELIVERIES)]
    return sum(count for count in found if isinstance(count, int))
