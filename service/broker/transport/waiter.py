"""Waits for messages on one connection, without polling and without waking everybody.

A Lua script cannot block, and a command that can block takes the message out of Redis before
anybody has recorded it (BRPOP), watches a single list (BLMOVE) or wakes every waiter (BLMOVE of a
list onto itself). So a take that finds nothing leaves its worker in one of two places:

- at the door: at most two workers of a kind. The script has read their lists on a connection with
  CLIENT TRACKING, so the server tells them at once when anyone, stock clients too, changes one of
  the lists, of any queue and any priority. They then take as usual; nothing was popped meanwhile,
  so a worker that freezes or dies here takes nothing with it.
- in line: all others, in a BLPOP on a list of tokens. Whoever leaves the door with a message puts
  a token there, more if more messages are left; each token wakes one worker.

So one message wakes two workers and moves up a third, whether ten or a thousand are idle. Two and
not one, because a worker may be frozen while it is at the door. A place at the door is kept by
asking again every second, and is free after three: lost tokens and dead waiters heal by themselves.
"""

import time
from collections.abc import Callable
from hashlib import sha1
from typing import Any, Final

from kombu.utils.uuid import uuid
from redis.exceptions import NoScriptError, ResponseError

from service.broker.scripts import Take, Taken, script
from service.redis.keys import BrokerKeys

PLACES: Final = 2
STAY: Final = 3.0
ASK_AGAIN: Final = 1.0
# Without CLIENT TRACKING (an old server, a proxy, missing rights) who is at the door has to look
# itself. It pauses in a BLPOP that nobody answers: Celery's event loop wakes for a connection, not
# for so short a time.
ASK_AGAIN_BLIND: Final = 0.05


class Waiter:
    """The state of one channel's consuming connection: idle, taking, at the door, or in line."""

    def __init__(self, keys: BrokerKeys, longest: int, lease: float) -> None:
        self._keys = keys
        self._longest = longest
        self._lease = lease
        self._me = uuid()
        self._socket: Any = None
        self._tracks = True
        self._loaded = False
        self._next = "take"
        self._since = 0.0
        self.state = "idle"
        self._request: Take

    def begin(
        self,
        connection: Any,
        *,
        lists: tuple[tuple[str, str], ...],
        free: int,
        acks: Callable[[], tuple[str, ...]],
    ) -> None:
        """Send what comes next: the wait in line, or a take, which carries acks along."""
        self._since = time.monotonic()
        # Workers of a kind: those that take from the same lists, in whatever order.
        group = sha1("\n".join(sorted(name for name, _ in lists)).encode()).hexdigest()[:12]  # noqa: S324 - a name, not a secret
        if self._next != "take":
            wake = self._keys.waiters_of(group)[1]
            pause = (wake, ASK_AGAIN) if self._next == "line" else (f"{wake}:none", ASK_AGAIN_BLIND)
            self._next, self.state = "take", "line"
            connection.send_command("BLPOP", *pause)
            return
        if connection._sock is not self._socket:  # noqa: SLF001 - Kombu keeps it the same way
            self._greet(connection)
        self._request = Take(
            keys=self._keys,
            group=group,
            lists=lists,
            free=free,
            longest=self._longest,
            lease=self._lease,
            acks=acks(),
            me=self._me,
            places=PLACES,
            stay=STAY,
        )
        take = script("take")
        how = ("EVALSHA", take.sha) if self._loaded else ("EVAL", take.text)
        self.state = "taking"
        connection.send_command(*how, *self._request.arguments())

    def finish(self, connection: Any, timeout: float | None = None) -> Taken | None:
        """Read what the readable connection has for us; None if there is nothing to deliver."""
        state, self.state = self.state, "idle"
        if state == "taking":
            return self._read_take(connection, timeout)
        if state == "line":
            connection.read_response()  # a token or a timeout: look again in either case
        else:
            drop_pushes(connection)
        return None

    @property
    def expects_reply(self) -> bool:
        """Whether a command is under way, so that nothing else may be read or sent."""
        return self.state in {"taking", "line"}

    @property
    def is_settled(self) -> bool:
        """Whether this waiter is at the door and need not ask again yet."""
        return self.state == "door" and time.monotonic() - self._since < ASK_AGAIN

    def reset_wait(self) -> None:
        """Nothing is under way any more: the connection was closed under us."""
        self.state, self._next = "idle", "take"

    def reset(self) -> None:
        """The connection is gone."""
        self.state, self._next, self._socket = "idle", "take", None

    def _read_take(self, connection: Any, timeout: float | None) -> Taken | None:
        options = {} if timeout is None else {"timeout": timeout}
        try:
            reply = connection.read_response(**options)
        except NoScriptError:  # the server was restarted, or its scripts were flushed
            self._loaded = False
            return None
        self._loaded = True
        taken = Taken.read(reply, self._request)
        if taken.verdict == "line":
            self._next = "line"
        elif taken.verdict == "door" and not self._tracks:
            self._next = "pause"
        elif taken.verdict == "door" and not connection.can_read(timeout=0):
            # Else a change was told along with the answer, and the poller would not see it.
            self.state = "door"
        return taken

    def _greet(self, connection: Any) -> None:
        self._socket = connection._sock  # noqa: SLF001
        self._loaded = False
        try:
            # NOLOOP: what this connection takes itself is no news to it.
            connection.send_command("CLIENT", "TRACKING", "ON", "NOLOOP")
            connection.read_response()
            self._tracks = True
        except ResponseError:
            self._tracks = False


def drop_pushes(connection: Any) -> None:
    """Read the news that wait on a connection; raises ConnectionError if it was closed."""
    while connection.can_read(timeout=0):
        connection.read_response(push_request=True)
