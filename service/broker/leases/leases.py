"""Keeps the leases of a process: renews them, and takes in how each delivery ended.

Threads with connections of their own do it (see the room's floor plan), so that neither a busy
event loop, nor a long job, nor a shutdown, nor the loss of the consumer's connection can let a
lease run out.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final
from weakref import WeakSet

from redis import Redis

from service.broker import celery_worker, messages
from service.broker.delivery import Delivery, LeaseOptions
from service.broker.leases.dispositions import Dispositions
from service.broker.leases.in_flight import CHUNK, InFlight, Outcome
from service.broker.leases.periodic_thread import PeriodicThread
from service.broker.leases.quarantine import Quarantine
from service.broker.leases.recovery import Fail, Recovery
from service.broker.scripts import Scripts, Taken
from service.redis.keys import BrokerKeys
from service.redis.transient import TRANSIENT, reason_of
from service.signals import Incident, note_incident

logger = logging.getLogger(__name__)

# How long an ack waits for the next take to carry it, which saves a round trip. A worker that is
# killed meanwhile has a finished job run again.
_LINGER: Final = 0.005
# An ack that went with a take and was not confirmed for so long is sent again.
_CONFIRMED_WITHIN: Final = 1.0


class Leases:
    """The deliveries of this process from one broker. All methods are safe in any thread.

    `holders` are the LeasedQoS of the channels that are given deliveries from here.
    """

    def __init__(
        self, client: Redis, keys: BrokerKeys, options: LeaseOptions, *, fail: Fail
    ) -> None:
        self.options = options
        self.scripts = Scripts(client, keys)
        self.in_flight = InFlight()
        self.quarantine = Quarantine(options, self.in_flight.is_open)
        self.holders: WeakSet[Any] = WeakSet()
        self._client = client
        self._suspected_orphans: set[str] = set()
        self._renew_now = True
        self._renewed_at = time.monotonic()
        self._recovery = Recovery(self.scripts, options, fail=fail)
        pause = options.pause
        self._keeping = PeriodicThread(
            "leases", self._keep, pause=pause, linger=_LINGER, on_outage=self._on_outage
        )
        self._recovering = PeriodicThread(
            "recovery", self._recover, pause=pause, on_outage=self._recovery.interrupted_by
        )
        self._burying = PeriodicThread("burying", self._bury, pause=pause)
        self.dispositions = Dispositions(
            self.in_flight, self.scripts, self._recovery, wake_burying=self._burying.wake
        )

    @property
    def age(self) -> float:
        """Seconds since the last time at which all leases began to be renewed, or this began."""
        return time.monotonic() - self._renewed_at

    def start(self) -> None:
        """Begin to renew and to recover."""
        for thread in (self._keeping, self._recovering, self._burying):
            thread.start()

    def hold(self, delivery: Delivery) -> bool:
        """Take charge of a delivery; whether its job is to be run.

        It is not if the job has ended here and only the ack was lost, nor if the job runs here
        since before its lease was lost: its end then ends this delivery too.
        """
        if self.in_flight.add(delivery, lambda tag: tag in self._worked_on()):
            return True
        job = messages.job_id(delivery.message)
        logger.warning("Job %s came back; it is not run again here.", job)
        self._keeping.wake()
        return False

    def still_held(self, taken: Taken) -> Taken:
        """The part of a take that is still ours, where its answer was read late.

        The process may have been frozen meanwhile, and the jobs may run elsewhere by now.
        """
        lost = self.scripts.renew([delivery.tag for delivery in taken.deliveries])
        for tag in lost:
            logger.warning("The lease on %s was lost before its job began.", tag)
        kept = tuple(delivery for delivery in taken.deliveries if delivery.tag not in lost)
        return replace(taken, deliveries=kept)

    def gives_back(self, tag: str) -> bool:
        """Return a delivery whose lease may be over; whether it was returned, and is not to begin.

        A lease that was not renewed in time may be over, even if Redis has not said so yet: a
        process that was frozen begins jobs again before it has renewed anything.
        """
        is_over = self.in_flight.is_lost(tag) or (
            self.age >= self.options.lease and self.in_flight.is_open(tag)
        )
        if is_over:
            self.dispose(Outcome.RETURN, tag)
        return is_over

    def dispose(self, outcome: Outcome, tag: str, reason: str = "") -> None:
        """Enter how a delivery ended. Redis is told soon: acks with the next take, or within ms."""
        self.in_flight.dispose(outcome, tag, reason)
        if outcome is Outcome.ACK:
            self._keeping.wake()
        elif outcome is Outcome.BURY:
            self._burying.wake()
        else:
            self._recovering.wake()

    def defer(self, tags: Iterable[str]) -> None:
        """Defer deliveries, and wait until Redis knows.

        Until then the end of this process would count against them.
        """
        for tag in tags:
            self.dispose(Outcome.DEFER, tag)
        try:
            self.dispositions.move()
        except TRANSIENT as error:
            logger.warning(
                "Jobs that are to run later could not be put back yet: %s", reason_of(error)
            )

    def adopt(self, queues: Iterable[str]) -> list[Delivery]:
        """The parked deliveries of these queues, for the caller to deliver now.

        Those of queues that no channel here consumes any more are returned.
        """
        parked, wanted = self.in_flight.unpark(), set(queues)
        for delivery in parked:
            if delivery.queue not in wanted:
                self.dispose(Outcome.RETURN, delivery.tag)
        return [delivery for delivery in parked if delivery.queue in wanted]

    def leave(self, timeout: float) -> None:
        """Return every delivery that is still held, as the process ends; then close."""
        for tag in self.in_flight.tags():
            self.dispose(Outcome.RETURN, tag)
        self.close(timeout)

    def close(self, timeout: float) -> None:
        """Tell Redis what is still to be told, for about `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        while self.in_flight.dispositions():
            try:
                self.dispositions.send_acks(float("inf"))
                self.dispositions.move()
            except TRANSIENT as error:
                logger.warning("Redis is away while the worker ends: %s", reason_of(error))
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)

    def _worked_on(self) -> set[str]:
        """The tags of what runs here, and of what the channels hold."""
        return celery_worker.running().union(*(holder.holds() for holder in list(self.holders)))

    def _on_outage(self, error: Exception) -> None:
        self._renew_now = True
        self._recovery.interrupted_by(error)
        # The address behind a sentinel may have changed: connect anew.
        self._client.connection_pool.disconnect()

    def _keep(self) -> None:
        due_at = self._renewed_at + self.options.lease / 3 - self.options.pause
        if self._renew_now or time.monotonic() >= due_at:
            self._return_orphans()
            self._renew()
        self.dispositions.send_acks(time.monotonic() - _CONFIRMED_WITHIN)

    def _recover(self) -> None:
        try:
            self.dispositions.move()
        finally:
            # A process that only asks something of this broker, as `celery inspect`, moves nothing.
            if celery_worker.is_worker():
                if self._recovery.sweep(self.in_flight.tags()):
                    self._recovering.wake()
                if self._recovery.burials():
                    self._burying.wake()

    def _bury(self) -> None:
        self.dispositions.bury()

    def _renew(self) -> None:
        begun, tags = time.monotonic(), self.in_flight.tags()
        lost: list[str] = []
        for start in range(0, max(len(tags), 1), CHUNK):
            lost += self.scripts.renew(tags[start : start + CHUNK])
        for tag in lost:
            if (delivery := self.in_flight.lose(tag)) is not None:
                job = delivery.job or messages.job_id(delivery.message)
                text = "The lease on job %s (%s) is LOST: it may run elsewhere too."
                logger.error(text, job, tag)
                note_incident(Incident.LEASE_LOST)
                if self.options.on_lost is not None:
                    self.options.on_lost(tag, job)
        # Last: until here `gives_back` holds all of them to be over, those that are lost included.
        self._renewed_at, self._renew_now = begun, False

    def _return_orphans(self) -> None:
        """Return deliveries that are held here although nothing here will ever end them."""
        orphans = self.in_flight.orphans(self._worked_on(), celery_worker.may_still_run)
        for tag in orphans & self._suspected_orphans:  # seen twice: not merely between two threads
            logger.warning("Nobody here works on %s any more; it goes back to its queue.", tag)
            self.dispose(Outcome.RETURN, tag)
        self._suspected_orphans = orphans
