"""Reads the address to serve on, and takes its port before anything is started."""

import errno
import re
import socket
from dataclasses import dataclass
from typing import Final

from service.errors import DevServerError

_FORM: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\[\]/\s]+)):(?P<port>\d+)"
)
_LAST_PORT: Final = 65_535
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class Address:
    """Where the web process listens; port 0 stands for any free one."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """The host to connect to: "every address" is reached on the loopback one."""
        return _LOOPBACK.get(self.host, self.host)

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read HOST:PORT or [IPV6]:PORT. Raises ValueError with a sentence on what is wrong."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} does not look like HOST:PORT, for example 127.0.0.1:8000 or [::1]:8000"
        )
    port = int(match["port"])
    if port > _LAST_PORT:
        raise ValueError(f"port {port} is too high; the last one is {_LAST_PORT}")
    return Address(match["ipv6"] or match["host"], port)


def listen(address: Address) -> tuple[socket.socket, Address]:
    """Take the port: a listening socket to hand to the web process, and its final address.

    Connections wait in it until the web process accepts them. Raises DevServerError.
    """
    try:
        choices = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        listener = _first_that_binds([(choice[0], choice[4]) for choice in choices])
    except (OSError, UnicodeError) as error:  # UnicodeError: a name with an empty or long part
        raise DevServerError(_explanation(error, address)) from error
    return listener, Address(address.host, listener.getsockname()[1])


def _first_that_binds(choices: list[tuple[int, tuple[str | int | bytes, ...]]]) -> socket.socket:
    """Bind the first address that this machine has: `localhost` can name one that it lacks."""
    for family, sockaddr in choices:
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        try:
            return socket.create_server(sockaddr, family=family, dualstack_ipv6=both)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or (family, sockaddr) == choices[-1]:
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the name has no address")


def _explanation(error: OSError | UnicodeError, address: Address) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"Port {address.port} on {address.host} is taken by another program."
            " Stop that program, or serve elsewhere: `service dev --bind HOST:PORT`"
            " (port 0 picks a free one)."
        )
    if number == errno.EACCES:
        return (
            f"You may not serve on port {address.port} of {address.host}."
            " Choose a port from 1024 up: `service dev --bind HOST:PORT`."
        )
    if isinstance(error, (UnicodeError, socket.gaierror)) or number == errno.EADDRNOTAVAIL:
        return (
            f"{address.host} is not an address of this machine."
            " Serve on 127.0.0.1 (this machine only) or 0.0.0.0 (every address)."
        )
    return f"Cannot serve on {address.host}, port {address.port}: {error}."
