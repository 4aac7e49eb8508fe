"""Waits for messages on one connection, without polling and without waking all waiters.

A Lua script cannot block, and a command that can block takes the message out of Redis before any
process is recorded as its holder (BRPOP), watches a single list (BLMOVE) or wakes every waiter
(BLMOVE of a list onto itself). So a take that finds nothing leaves its worker in one of two states:

- active: at most two workers of a group. The script has read their lists on a connection with
  CLIENT TRACKING, so the server tells them at once when any client, a stock one too, changes one of
  the lists, of any queue and any priority. They then take as usual; nothing was popped meanwhile,
  so a worker that freezes or dies here takes no message with it.
- standby: all others, in a BLPOP on a list of tokens. An active worker that takes a message puts a
  token there, more if more messages are left; each token wakes one worker. Only where it holds no
  other message, and none is left, does it put no token there, and stays active.

So one message wakes two workers, whether ten or a thousand are idle; and while jobs come faster
than they end, it makes a third one active in place of the one that works. Two and not one are
active, because one of them may be frozen. A worker stays active by asking again every two seconds,
and counts as gone after three and a half; whoever is on standby looks for its place then, which the
take has told it: lost tokens and dead waiters heal by themselves within four seconds. An active
worker also asks at the moment when the next scheduled job is due, which each take tells it.
"""

import random
import time
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Final

from kombu.utils.uuid import uuid
from redis.exceptions import NoScriptError, ResponseError

from service.broker.leases.in_flight import InFlight
from service.broker.scripts import Take, Taken, script

ASK_AGAIN: Final = 2.0  # seconds
# Those on standby look for a free place at different moments, or each look would be one of all.
_SPREAD: Final = 0.5  # seconds
# Without CLIENT TRACKING (an old server, a proxy, missing rights) an active worker has to look
# itself. It pauses in a BLPOP on a list that stays empty: Celery's event loop wakes for a
# connection, not for so short a time.
_ASK_AGAIN_BLIND: Final = 0.05


class WaiterState(Enum):
    """What a consuming connection does."""

    IDLE = auto()
    TAKING = auto()
    ACTIVE = auto()
    STANDBY = auto()
    PAUSE = auto()


class Waiter:
    """The state of one channel's consuming connection, and the command that comes next."""

    def __init__(self) -> None:
        self._id = uuid()
        self._socket: Any = None
        self._tracks = True
        self._loaded = False
        self._next = WaiterState.TAKING
        self._ask_at = 0.0
        self._on_standby_for = ASK_AGAIN
        self._may_be_active = True
        self.state = WaiterState.IDLE
        self._request: Take

    def begin(self, connection: Any, take: Take, in_flight: InFlight) -> None:
        """Send what comes next: a wait on standby, or the take along with what is to be acked."""
        self._ask_at = time.monotonic() + ASK_AGAIN
        if self._next is not WaiterState.TAKING:
            self.state, self._next = self._next, WaiterState.TAKING
            wake, seconds = take.waiters[1], self._on_standby_for
            if self.state is WaiterState.PAUSE:
                wake, seconds = f"{wake}:none", _ASK_AGAIN_BLIND
            connection.send_command("BLPOP", wake, seconds)
            return
        if connection._sock is not self._socket:  # noqa: SLF001 - Kombu keeps it the same way
            self._greet(connection)
        acks, held = tuple(in_flight.acks_to_send()), in_flight.count
        self._request = replace(
            take, waiter=self._id, acks=acks, held=held, may_be_active=self._may_be_active
        )
        self.state = WaiterState.TAKING
        form = script("take").by_sha if self._loaded else script("take").whole
        connection.send_command(*form(*self._request.call()))

    def finish(self, connection: Any, timeout: float | None = None) -> Taken | None:
        """Read what the readable connection has for us; None if there is nothing to deliver."""
        state, self.state = self.state, WaiterState.IDLE
        if state is WaiterState.TAKING:
            return self._read_take(connection, timeout)
        if state in (WaiterState.STANDBY, WaiterState.PAUSE):
            connection.read_response()  # a token or a timeout: look again in either case
        else:
            drop_pushes(connection)
        return None

    @property
    def expects_reply(self) -> bool:
        """Whether a command is under way, so that nothing else may be read or sent."""
        return self.state in (WaiterState.TAKING, WaiterState.STANDBY, WaiterState.PAUSE)

    @property
    def is_to_ask_again(self) -> bool:
        """Whether this waiter is active, and has to ask in order to stay so, or for a due job."""
        return self.state is WaiterState.ACTIVE and time.monotonic() >= self._ask_at

    @property
    def patience(self) -> float:
        """Seconds for which an active waiter need not ask by itself."""
        return max(0.0, self._ask_at - time.monotonic())

    def reset_wait(self) -> None:
        """Nothing is under way any more: the connection was closed under us."""
        self.state, self._next = WaiterState.IDLE, WaiterState.TAKING

    def reset(self) -> None:
        """The connection is gone."""
        self.reset_wait()
        self._socket = None
        self._may_be_active = True

    def _read_take(self, connection: Any, timeout: float | None) -> Taken | None:
        options = {} if timeout is None else {"timeout": timeout}
        try:
            reply = connection.read_response(**options)
        except NoScriptError:  # the server was restarted, or its scripts were flushed
            self._loaded = False
            return None
        self._loaded = True
        taken = Taken.read(reply, self._request)
        # One that takes leaves the active ones, unless the verdict says otherwise.
        has_taken = bool(taken.deliveries or taken.unusable)
        self._may_be_active = taken.verdict == "active" or (
            taken.verdict == "taken" and not has_taken and self._may_be_active
        )
        if taken.verdict == "standby":
            self._next = WaiterState.STANDBY
            self._on_standby_for = (taken.look_again or 0.0) + random.uniform(0.01, _SPREAD)  # noqa: S311
        elif taken.verdict == "active" and not self._tracks:
            self._next = WaiterState.PAUSE
        elif taken.verdict == "active" and not connection.can_read(timeout=0):
            # Else a push came along with the answer, and the poller would not see it.
            self.state = WaiterState.ACTIVE
            if taken.next_due is not None:
                self._ask_at = min(self._ask_at, time.monotonic() + taken.next_due)
        return taken

    def _greet(self, connection: Any) -> None:
        self._socket = connection._sock  # noqa: SLF001
        self._loaded = False
        try:
            # NOLOOP: no push for a list that this connection has changed itself.
            connection.send_command("CLIENT", "TRACKING", "ON", "NOLOOP")
            connection.read_response()
            self._tracks = True
        except ResponseError:
            self._tracks = False


def drop_pushes(connection: Any) -> None:
    """Read the pushes that wait on a connection; raises ConnectionError if it was closed."""
    while connection.can_read(timeout=0):
        connection.read_response(push_request=True)
