"""Tells Redis how deliveries have ended: sends acks, moves messages back, buries dead ones."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial

from service.broker.delivery import Delivery
from service.broker.leases.in_flight import Disposition, InFlight, Outcome
from service.broker.leases.recovery import Burial, Recovery
from service.broker.scripts import Scripts
from service.redis.transient import TRANSIENT

logger = logging.getLogger(__name__)


class Dispositions:
    """Carries out what InFlight has entered. Every method raises the errors of TRANSIENT.

    What Redis could not be told stays entered. `wake_burying` is called when a message that was
    to go back turns out to be one to bury.
    """

    def __init__(
        self,
        in_flight: InFlight,
        scripts: Scripts,
        recovery: Recovery,
        *,
        wake_burying: Callable[[], object],
    ) -> None:
        self._in_flight = in_flight
        self._scripts = scripts
        self._recovery = recovery
        self._wake_burying = wake_burying
        # The threads, and a process that ends, must not do the same at once.
        self._ack_lock = threading.Lock()
        self._move_lock = threading.Lock()

    def send_acks(self, sent_before: float) -> None:
        """Send each ack that was never sent, and again those sent before `sent_before`.

        An ack that Redis has confirmed is not sent again.
        """
        with self._ack_lock:
            while acks := self._in_flight.acks_to_send(sent_before=sent_before):
                late = self._scripts.acknowledge(list(acks))
                # One that was sent before may have arrived: then it is no wonder that it is gone.
                self.confirm(acks, [tag for tag in late if not acks[tag]])

    def confirm(self, tags: Iterable[str], late: Collection[str]) -> None:
        """Redis has these acks; `late` are those of deliveries that it no longer held."""
        confirmed = self._in_flight.forget(tags)
        for tag in confirmed.intersection(late):  # others may have been confirmed before
            logger.warning("The lease on %s was lost before its job ended.", tag)

    def move(self) -> None:
        """Put back what was requeued, returned or deferred."""
        with self._move_lock:
            moves = [
                disposition
                for disposition in self._in_flight.dispositions()
                if disposition.outcome not in (Outcome.ACK, Outcome.BURY)
            ]
            found = self._recovery.complete([each.delivery for each in moves])
            _do_all(partial(self._put_back, *pair) for pair in zip(moves, found, strict=True))

    def bury(self) -> None:
        """Bury what is ours, and what sweeping has found."""
        disposed = self._in_flight.dispositions()
        ours = (partial(self._bury, each) for each in disposed if each.outcome is Outcome.BURY)
        found = (partial(self._recovery.bury, burial) for burial in self._recovery.burials())
        _do_all((*ours, *found))

    def _put_back(self, disposition: Disposition, delivery: Delivery | None) -> None:
        outcome, tag = disposition.outcome, disposition.delivery.tag
        counted, first = outcome is Outcome.REQUEUE, outcome is Outcome.RETURN
        burial: Burial | bool = False
        try:
            if delivery is not None:
                burial = self._recovery.put_back(delivery, counted=counted, first=first)
        except TRANSIENT:
            raise
        except Exception as error:
            logger.exception("What is held as %s cannot be put back.", tag)
            reason = f"The message cannot be put back: {error!r}"[:1000]
            burial = Burial(disposition.delivery, reason)
        if isinstance(burial, Burial):
            self._in_flight.bury_instead(disposition, burial.reason)
            self._wake_burying()
        else:
            self._in_flight.forget([tag])

    def _bury(self, disposition: Disposition) -> None:
        (delivery,) = self._recovery.complete([disposition.delivery])
        if delivery is not None:
            self._recovery.bury(Burial(delivery, disposition.reason))
        self._in_flight.forget([disposition.delivery.tag])


def _do_all(actions: Iterable[Callable[[], None]]) -> None:
    """Call each. What is raised of TRANSIENT is raised in the end: it may be one message's only."""
    trouble: Exception | None = None
    for action in actions:
        try:
            action()
        except TRANSIENT as error:
            trouble = error
    if trouble is not None:
        raise trouble
