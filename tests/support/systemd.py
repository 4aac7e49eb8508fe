"""A service manager's socket, as systemd has one for a unit of Type=notify."""

import os
import socket
from pathlib import Path

from tests.support.wait import wait_until


class Manager:
    """Receives the messages of the processes that have `env` in their environment."""

    def __init__(self, folder: Path, *, watchdog: float = 0.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = folder / "notify"
        self._socket.bind(os.fspath(path))
        self._socket.setblocking(False)
        self.messages: list[str] = []
        self.env = {"NOTIFY_SOCKET": os.fspath(path)}
        if watchdog:
            self.env["WATCHDOG_USEC"] = str(round(watchdog * 1e6))

    def heard(self, message: str) -> int:
        """How often the message has come so far."""
        while True:
            try:
                self.messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self.messages.count(message)

    def wait_for(self, message: str, times: int = 1) -> None:
        """Wait until the message has come so often."""
        wait_until(
            lambda: self.heard(message) >= times,
            description=f"the message {message} has come {times} times: {self.messages}",
        )

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()
