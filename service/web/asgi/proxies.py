"""Believes what trusted proxies say of a request: who sent it, how, to which host and path."""

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeAlias

from quart import request

from service.access.access import FROM_PROXY
from service.web.asgi.problem import RefusedError

UNIX: Final = "unix"  # stands for every peer on a Unix socket
_FORWARDED: Final = b"forwarded"
_NAMES: Final = frozenset(
    {_FORWARDED, *(b"x-forwarded-" + name for name in (b"for", b"proto", b"host", b"prefix"))}
)
# A pair of a Forwarded element, its value quoted or a token, and what ends it (RFC 7239, 4).
_PAIR: Final = re.compile(
    r'\s*([\w!#$%&\'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+))\s*(;|,|$)'
)
_PREFIX: Final = re.compile(r"(?:/(?!\.\.?(?:/|$))[\w.~%+-]+)*/?", re.ASCII)

_Address: TypeAlias = IPv4Address | IPv6Address
_Elements: TypeAlias = list[dict[str, str]]


class TrustedProxies:
    """The peers that are believed: addresses, networks, and `unix` for those on a Unix socket."""

    def __init__(self, names: Iterable[str]) -> None:
        """Raises ValueError for what is none of these."""
        given = set(names)
        self._trusts_unix = UNIX in given
        self._networks = [ip_network(name, strict=False) for name in given - {UNIX}]

    def seen_through(self, scope: Any) -> Any:
        """The request as its client sent it to the first proxy, in a scope of ASGI.

        A request from a peer that is not trusted is returned unchanged. The client is the nearest
        hop that is not a trusted proxy, since anyone can write what is before that one. Raises
        RefusedError where a proxy seems to pass on headers that the client has made up.
        """
        peer = (scope.get("client") or ("",))[0]
        if not self._trusts(_parse(peer), peer):
            return scope
        said: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name in _NAMES:
                said.setdefault(name, []).append(value.decode("latin1"))
        elements = _elements(said.get(_FORWARDED, ()))
        hops = _items(said, b"x-forwarded-for")
        distance, client = self._client(peer, hops)
        last = {
            "proto": _at(_items(said, b"x-forwarded-proto"), distance),
            "host": _at(_items(said, b"x-forwarded-host"), distance),
        }
        if elements:
            distance, other = self._client(peer, [each.get("for", "") for each in elements])
            if not hops:
                client, last = other, elements[-1 - distance]
            elif other != client:
                raise RefusedError(
                    HTTPStatus.BAD_REQUEST,
                    "Forwarded and X-Forwarded-For name different clients. A proxy must set both,"
                    " or set one and remove the other.",
                )
        prefix = _at(_items(said, b"x-forwarded-prefix"), 0)
        return _rewritten(scope, client, last.get("proto", ""), last.get("host", ""), prefix)

    def _client(self, peer: str, hops: list[str]) -> tuple[int, str]:
        """The client's distance, in hops before our peer, and its address.

        If a hop has no address (`unknown`), the address of the proxy after it counts.
        """
        known = peer
        for distance, hop in enumerate(reversed(hops)):
            address = _parse(hop)
            if address is None:
                return distance, known
            known = str(address)
            if not self._trusts(address, hop):
                return distance, known
        return max(0, len(hops) - 1), known

    def _trusts(self, address: _Address | None, text: str) -> bool:
        if address is None:
            return self._trusts_unix and not text
        return any(address in network for network in self._networks)


def client_address() -> str:
    """The address of who sent the current request, seen through trusted proxies.

    An IPv4 address is written as such on every socket. Empty for an unknown one: that of a peer
    on a Unix socket.
    """
    return _as_plain(request.remote_addr or "")


@lru_cache(10_000)
def _as_plain(address: str) -> str:
    return str(_parse(address) or "")


def _rewritten(scope: Any, client: str, scheme: str, host: str, prefix: str) -> Any:
    seen = {**scope, "client": (client, 0) if client else None, FROM_PROXY: True}
    if scheme.lower() in {"http", "https"}:
        seen["scheme"] = scheme.lower()
    if host:
        kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
        seen["headers"] = [*kept, (b"host", host.encode("latin1"))]
    if prefix and _PREFIX.fullmatch(prefix):  # else a link could lead to another host
        prefix = prefix.rstrip("/")
        seen["root_path"] = prefix + scope.get("root_path", "")
        seen["path"] = prefix + scope["path"]
    return seen


def _elements(values: Iterable[str]) -> _Elements:
    """The elements of Forwarded headers, nearest last. Raises RefusedError."""
    elements: _Elements = []
    for value in values:
        element: dict[str, str] = {}
        position = 0
        while position < len(value):
            pair = _PAIR.match(value, position)
            if pair is None:
                # Not passed over: an open quote could hide what a proxy has added behind it.
                raise RefusedError(HTTPStatus.BAD_REQUEST, "Forwarded is malformed (RFC 7239, 4).")
            name, quoted, token, end = pair.groups()
            element[name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = pair.end()
            if end != ";":
                elements.append(element)
                element = {}
        if element:
            elements.append(element)
    return elements


def _items(said: dict[bytes, list[str]], name: bytes) -> list[str]:
    """The items of a header, nearest last."""
    parts = [part.strip() for value in said.get(name, ()) for part in value.split(",")]
    return [part for part in parts if part]


def _at(items: list[str], distance: int) -> str:
    """What the proxy of this distance has said, or the farthest one that has said something."""
    return items[max(0, len(items) - 1 - distance)] if items else ""


def _parse(text: str) -> _Address | None:
    """An address with or without a port: `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
