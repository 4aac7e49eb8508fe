"""API tokens: made, listed, revoked, and looked up by their hash; the text is stored nowhere."""

import hashlib
import secrets
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final, cast

import msgspec
from redis.asyncio import Redis

from service.access.policy import Caller, check_scope, roles_in
from service.errors import ResultsUnavailableError, ServiceError
from service.redis.bounded import bounded
from service.redis.keys import ResultKeys

PREFIX: Final = "sjt_"  # tells our tokens from others', and finds one that was published by mistake
_BYTES: Final = 32  # of chance: too many to guess, so that a hash without a salt is enough
_KNOWN_FOR: Final = 5.0  # seconds for which a process trusts a token that it has looked up
_SEEN_EVERY: Final = 60.0  # seconds between two notes that a token is in use


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis has of a token. Times are seconds since 1970; `expires_at` is None for no end.

    `scopes` say what it is for. Its jobs belong to `owner`, by default to `token:<name>`.
    """

    name: str
    scopes: tuple[str, ...]
    owner: str
    created_at: float
    expires_at: float | None = None

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= time.time()

    @property
    def caller(self) -> Caller:
        """Who sends a request with it."""
        return Caller(self.owner, roles_in(self.scopes), self.scopes)


class ApiTokenError(ServiceError):
    """A token cannot be made or revoked."""


class ApiTokens:
    """The API tokens of an app. Every method may raise ResultsUnavailableError."""

    def __init__(self, client: Redis, keys: ResultKeys, *, timeout: float) -> None:
        self._client = client
        self._keys = keys
        self._timeout = timeout
        self._known: dict[str, tuple[float, ApiToken]] = {}  # by hash, with the time of looking up
        self._seen: dict[str, float] = {}

    async def create(
        self, name: str, scopes: tuple[str, ...], *, seconds: float | None, owner: str = ""
    ) -> str:
        """Make a token that lives so many seconds, and return it: it is not stored.

        Raises ApiTokenError for a name that is taken, and ValueError for a scope that is none.
        """
        for scope in scopes:
            check_scope(scope)
        if any(token.name == name for token, _ in await self.all()):
            raise ApiTokenError(f"There is a token {name!r} already. Revoke it, or choose a name.")
        now, text = time.time(), PREFIX + secrets.token_urlsafe(_BYTES)
        token = ApiToken(
            name=name,
            scopes=scopes,
            owner=Caller(owner or f"token:{name}").id,
            created_at=now,
            expires_at=None if seconds is None else now + seconds,
        )
        await self._ask(self._client.hset(self._keys.tokens, _hash(text), _encode(token)))
        return text

    async def all(self) -> list[tuple[ApiToken, float | None]]:
        """All tokens by name, each with the time of its last use.

        An expired token stays listed for as long as results are kept, and is then deleted.
        """
        stored = await self._ask(self._client.hgetall(self._keys.tokens))
        seen = await self._ask(self._client.hgetall(self._keys.tokens_seen))
        found: list[tuple[ApiToken, float | None]] = []
        for digest, data in stored.items():
            token = _decode(data)
            if token is None:
                continue
            if token.expires_at is not None and token.expires_at < time.time() - self._keys.ttl:
                await self._forget(digest)
                continue
            found.append((token, float(seen[digest]) if digest in seen else None))
        return sorted(found, key=lambda each: each[0].name)

    async def revoke(self, name: str) -> None:
        """Have the token open nothing any more. Raises ApiTokenError for an unknown name."""
        stored = await self._ask(self._client.hgetall(self._keys.tokens))
        for digest, data in stored.items():
            if (token := _decode(data)) is not None and token.name == name:
                await self._forget(digest)
                return
        raise ApiTokenError(f"There is no token {name!r}. `service tokens list` shows all.")

    async def find(self, text: str) -> ApiToken | None:
        """The token with this text; None if it is unknown, was revoked, or has expired.

        A process trusts a token for five seconds after looking it up.
        """
        digest, now = _hash(text), time.monotonic()
        looked_up_at, token = self._known.get(digest, (0.0, None))
        if token is None or now - looked_up_at > _KNOWN_FOR:
            self._known.pop(digest, None)
            data = await self._ask(self._client.hget(self._keys.tokens, digest))
            token = None if data is None else _decode(data)
            if token is not None:
                self._known[digest] = (now, token)
        if token is None or token.is_expired:
            return None
        if now - self._seen.get(digest, -_SEEN_EVERY) >= _SEEN_EVERY:
            self._seen[digest] = now
            with suppress(ResultsUnavailableError):  # only a note: the request goes on
                await self._ask(self._client.hset(self._keys.tokens_seen, digest, str(time.time())))
        return token

    async def _forget(self, digest: str | bytes) -> None:
        await self._ask(self._client.hdel(self._keys.tokens, cast("str", digest)))
        await self._ask(self._client.hdel(self._keys.tokens_seen, cast("str", digest)))

    async def _ask(self, command: Awaitable[Any] | Any) -> Any:
        async with bounded(self._timeout):
            return await command


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _encode(token: ApiToken) -> bytes:
    return msgspec.json.encode(token)


def _decode(data: bytes) -> ApiToken | None:
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(data, type=ApiToken)
    return None
