"""Tells systemd how this process is: sd_notify(3), one datagram for each message."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from typing import Final, Self

logger: Final = logging.getLogger(__name__)

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"
TAKES_JOBS: Final = "STATUS=Takes jobs."  # what `systemctl status` shows of a worker


class Notifier:
    """Sends messages to the socket of a service manager."""

    def __init__(self, address: str, watchdog: float = 0.0) -> None:
        """`watchdog` is the time after which the manager misses a message, in seconds; 0: never."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # abstract
        self.interval = watchdog / 2

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """That of this process; None where no manager listens, or it watches another process."""
        address = environment.get("NOTIFY_SOCKET")
        if not address:
            return None
        watched = environment.get("WATCHDOG_PID") or str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        is_watched = watched == str(os.getpid()) and usec.isascii() and usec.isdigit()
        return cls(address, int(usec) / 1e6 if is_watched else 0.0)

    def tell(self, message: str) -> None:
        """Send a message; may be called in a signal handler, and blocks nobody."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            logger.debug("The service manager could not be told %s: %r", message, error)

    async def feed_watchdog(self) -> None:
        """Send the watchdog's message for as long as the event loop turns."""
        while self.interval:
            self.tell(WATCHDOG)
            await asyncio.sleep(self.interval)
