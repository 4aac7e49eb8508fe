"""Refuses requests whose Host is malformed, or is not a name that is served here."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import Any, Final

from service.web.asgi.problem import RefusedError

_LONGEST: Final = 255  # characters, as in DNS
_FORM: Final = re.compile(
    r"(?P<name>[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]+\])\.?(?::[0-9]*)?",
    re.IGNORECASE,
)


class TrustedHosts:
    """The names that are served: a name, all below `.name`, and networks. Without any, every name.

    A browser asks under the name that its user sees. So no page can reach the service by giving a
    name of its own this machine's address (DNS rebinding).
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks = []
        for name in names:
            try:
                self._networks.append(ip_network(name.strip("[]"), strict=False))
            except ValueError:
                self._names.add(name.lower())
        self.any = not self._names and not self._networks

    def check(self, scope: Any, *, any_name: bool = False) -> None:
        """Raises RefusedError: 400 for a host of odd form, 421 for one that is not served.

        With `any_name` each is served.
        """
        host = host_of(scope)
        if is_odd(host):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "The Host of this request is malformed.")
        if not (self.any or any_name or self._has(host)):
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"{host or 'A request without Host'} is not served here."
                " SERVICE_TRUSTED_HOSTS has the names that are.",
            )

    def _has(self, host: str) -> bool:
        form = _FORM.fullmatch(host)
        if form is None:
            return False
        name = form["name"].lower()
        try:
            address = ip_address(name.strip("[]"))
        except ValueError:
            parts = name.split(".")
            above = {"." + ".".join(parts[at:]) for at in range(1, len(parts))}
            return name in self._names or not above.isdisjoint(self._names)
        return any(address in network for network in self._networks)


def host_of(scope: Any) -> str:
    """The Host of a request, empty if it has none. Several are joined, which `is_odd` refuses."""
    return ", ".join(
        [value.decode("latin1") for name, value in scope["headers"] if name == b"host"]
    )


def is_odd(host: str) -> bool:
    """Whether the Host is malformed; werkzeug fails on some of these before there is a route."""
    return host != "" and (len(host) > _LONGEST or _FORM.fullmatch(host) is None)
