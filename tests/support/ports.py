"""Finds ports that nobody listens on."""

import random
import socket
from typing import Final

# Below those that an operating system gives to connections (Linux: 32768, others: 49152). Among
# them a connection could take the port of a server that is stopped for a moment; even one that
# somebody tries to make to that very port: it is connected to itself then.
_PORTS: Final = range(15_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago, and that no connection is given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.SystemRandom().choice(_PORTS)  # hypothesis seeds the other
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            try:
                listener.bind((host, port))
            except OSError:
                continue
            return port
