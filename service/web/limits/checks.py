"""Holds callers to their limits: how much they ask for, and how much they have open at once."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.client import TOO_MANY_REQUESTS
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from quart import Blueprint, Quart, Response, current_app, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout, Unauthorized

from service.access.access import caller_of, current_request, owner_for
from service.access.operators import bearer_of
from service.access.policy import Caller
from service.jobs.sending.message import Accepted, CallerShare, Conditions
from service.parts import Parts, parts_of
from service.redis.deadline import Deadline
from service.settings.limits import Limit, LimitExceededError
from service.web.asgi.proxies import client_address
from service.web.http.site import NAME, PROBES
from service.web.limits.ledger import Ledger

logger: Final = logging.getLogger(__name__)

_EXTENSION: Final = "service.web.limits"
_CALLER: Final = "service.limits.caller"  # in the scope of a request
_TOLD: Final = "service.limits.told"  # by the name of a limit, the seconds until it is whole again
_TOLD_FROM: Final = 0.1  # of a quota: a caller that has had less is told nothing, which costs 2 %
_PROBES: Final = f"{NAME}.{PROBES}"
_PREFIX: Final = 64  # bits of an IPv6 address that one customer of a provider has at least


class CallerLimits:
    """What the callers of an app have now."""

    def __init__(self, parts: Parts) -> None:
        self.settings = parts.settings
        self.limits = parts.settings.limits
        self.ledger = Ledger(parts.redis, parts.keys, timeout=parts.settings.redis_timeout)
        self.held: Counter[tuple[str, str]] = Counter()
        told = {"requests": self.limits.requests, "starts": self.limits.starts}
        self.told = {name: limit for name, limit in told.items() if limit.quota}
        self.policies = ", ".join(map(self.limits.policy, self.told))
        self.share_of = lru_cache(1_000)(self._share_of)
        self._keys = parts.keys

    def _share_of(self, caller: str) -> CallerShare | None:
        limits, keys = self.limits, self._keys
        if not (limits.starts.quota or limits.open_jobs.quota or limits.open_bytes.quota):
            return None
        return CallerShare(
            keys.caller(caller),
            keys.open_jobs(caller),
            limits.starts.step,
            limits.starts.seconds,
            limits.open_jobs.quota,
            limits.open_bytes.quota,
            keys.ttl,
        )


def init_limits(app: Quart, ours: Quart | Blueprint) -> None:
    """Count every request of `ours`, and tell callers what they have left."""
    own = app.extensions[_EXTENSION] = CallerLimits(parts_of(app))
    app.after_serving(own.ledger.aclose)
    ours.before_request(_count_request)
    ours.after_request(_tell)


async def conditions(idempotency_key: str = "", fingerprint: str = "") -> Conditions:
    """What must hold for the current request to start a job."""
    own = _limits_of(current_app)
    settings = own.settings
    return Conditions(
        idempotency_key=idempotency_key,
        owner=owner_for(await caller_of()),
        fingerprint=fingerprint,
        limit=settings.max_queue,
        max_bytes=settings.max_queue_bytes,
        max_held=settings.max_held_bytes,
        share=own.share_of(caller_key()),
    )


def note_start(accepted: Accepted) -> None:
    """Have the answer to the current request tell what the caller has left of its starts."""
    if accepted.debt is not None:
        _note_debt(_limits_of(current_app), "starts", accepted.debt)


def hold(name: str) -> Callable[[], None]:
    """Count one more of the limit as held by the caller; returns the function that gives it back.

    Raises LimitExceededError.
    """
    own = _limits_of(current_app)
    limit: Limit = getattr(own.limits, name)
    held = (name, caller_key())
    if limit.quota and own.held[held] >= limit.quota:
        raise LimitExceededError(name)
    own.held[held] += 1

    def release() -> None:
        own.held[held] -= 1
        if own.held[held] <= 0:
            del own.held[held]

    return release


def held_of(app: Quart) -> Counter[str]:
    """How many of each limit all callers of the app hold now. For any thread."""
    total: Counter[str] = Counter()
    for (name, _), many in list(_limits_of(app).held.items()):
        total[name] += many
    return total


def refuse_guesses() -> None:
    """Look at no further token of a caller that has sent too many wrong ones.

    Raises LimitExceededError.
    """
    own = _limits_of(current_app)
    limit = own.limits.sign_ins
    if limit.quota and (wait := own.ledger.wait_for_one("sign-ins", limit, caller_key())):
        raise LimitExceededError("sign-ins", wait)


def note_guess() -> None:
    """Count, and log, that the caller has sent a wrong token."""
    own, caller = _limits_of(current_app), caller_key()
    if own.limits.sign_ins.quota:
        own.ledger.take("sign-ins", own.limits.sign_ins, caller)
    logger.warning("A wrong token was sent by %s to %s", caller, request.path)


@contextmanager
def holding(name: str) -> Iterator[None]:
    """Hold one more of a limit within the block. Raises LimitExceededError."""
    release = hold(name)
    try:
        yield
    finally:
        release()


async def read_body() -> bytes:
    """The body of the current request, of which no more than SERVICE_MAX_BODY is read.

    Quart bounds bodies by what the app says, which may be a host's. Raises LimitExceededError,
    RequestEntityTooLarge, and RequestTimeout for one that does not come in time.
    """
    asked: Any = request
    limit, pieces, size = parts_of(current_app).settings.max_body, [], 0
    try:
        with holding("bodies"):
            async with Deadline(asked.body_timeout):
                async for piece in asked.body:
                    pieces.append(piece)
                    if (size := size + len(piece)) > limit:
                        raise RequestEntityTooLarge
    except TimeoutError as error:
        raise RequestTimeout from error
    return b"".join(pieces)


async def read_form() -> MultiDict[str, str]:
    """The form in the body of the current request. Raises what `read_body` raises."""
    asked: Any = request
    data = await read_body()
    asked.body = asked.body_class(len(data), None)
    asked.body.set_result(data)
    form: MultiDict[str, str] = await asked.form
    return form


def caller_key() -> str:
    """The one whose limits count for the current request."""
    key: str = current_request().scope[_CALLER]
    return key


@lru_cache(10_000)
def network_of(address: str) -> str:
    """An address as a caller; of IPv6 the network, in which one caller has all addresses.

    All peers without an address, on Unix sockets, are one.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    if not isinstance(parsed, IPv6Address):
        return address
    return f"{IPv6Address(int(parsed) >> _PREFIX << _PREFIX)}/{_PREFIX}"


async def _count_request() -> None:
    if request.blueprint == _PROBES:
        return  # nor is its caller looked for
    own, asked = _limits_of(current_app), current_request()
    scope: dict[str, Any] = asked.scope
    scope[_CALLER] = network_of(client_address())
    caller = await (_caller_by_token() if bearer_of(asked) else caller_of(asked))
    if caller:
        scope[_CALLER] = f"id {caller.id}"
    if (limit := own.limits.requests).quota:
        debt, wait = own.ledger.take("requests", limit, caller_key())
        if wait:
            raise LimitExceededError("requests", wait)
        _note_debt(own, "requests", debt)


def _note_debt(own: CallerLimits, name: str, debt: float) -> None:
    """Have the answer tell it, unless the caller has hardly begun with its quota."""
    if debt >= own.told[name].seconds * _TOLD_FROM:
        current_request().scope.setdefault(_TOLD, {})[name] = debt


async def _caller_by_token() -> Caller | None:
    """The caller of a request with a token. Raises LimitExceededError, and Unauthorized."""
    refuse_guesses()
    try:
        caller = await caller_of()
    except Unauthorized:
        note_guess()
        raise
    if caller is None:
        note_guess()
    return caller


async def _tell(response: Response) -> Response:
    told = current_request().scope.get(_TOLD)
    headers = response.headers
    if told is None or (response.status_code == TOO_MANY_REQUESTS and "RateLimit" in headers):
        return response
    own = _limits_of(current_app)
    fields = [
        f'"{name}";r={own.told[name].left(debt)};t={math.ceil(debt)}' for name, debt in told.items()
    ]
    headers.add("RateLimit", ", ".join(fields))  # to set one would look through all of them first
    headers.add("RateLimit-Policy", own.policies)
    return response


def _limits_of(app: Quart) -> CallerLimits:
    own: CallerLimits = app.extensions[_EXTENSION]
    return own
