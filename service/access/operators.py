"""Operators by the admin token: sent with a request, or exchanged for a cookie at sign-in."""

import hashlib
import hmac
import secrets
import time
from typing import Final

from itsdangerous import BadSignature, Signer
from quart import Request

from service.access.policy import ADMIN, Caller
from service.parts import Parts
from service.redis.bounded import bounded

COOKIE: Final = "service_admin"
TTL: Final = 12 * 3600  # seconds
ADMINISTRATOR: Final = Caller("admin", {ADMIN})  # whoever has the admin token


class Operators:
    """Recognizes operators by the app's admin token, or by the cookie that it was exchanged for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._token = parts.settings.admin_token

    def is_token(self, text: str) -> bool:
        """Whether this is the admin token; always false where there is none."""
        return bool(self._token) and hmac.compare_digest(text.encode(), self._token.encode())

    def new_cookie(self) -> str:
        """A new cookie: the time at which it expires, and a session name to sign it out by."""
        text = f"{int(time.time()) + TTL}-{secrets.token_urlsafe(12)}"
        return cookie_signer(self._token).sign(text).decode()

    async def has_cookie(self, asked: Request) -> bool:
        """Whether the request has a cookie that holds. Raises ResultsUnavailableError."""
        session = self._session(asked)
        if session is None:
            return False
        async with bounded(self._parts.settings.redis_timeout):
            return not await self._parts.redis.exists(self._parts.keys.signed_out(session))

    async def sign_out(self, asked: Request) -> None:
        """End the request's cookie, wherever there is a copy. Raises ResultsUnavailableError."""
        if (session := self._session(asked)) is not None:
            async with bounded(self._parts.settings.redis_timeout):
                await self._parts.redis.set(self._parts.keys.signed_out(session), 1, ex=TTL)

    def _session(self, asked: Request) -> str | None:
        """The name in the request's cookie, if that is ours and its time is not over."""
        if not self._token or not (cookie := asked.cookies.get(COOKIE)):
            return None
        try:
            until, _, session = cookie_signer(self._token).unsign(cookie).decode().partition("-")
            return session if session and int(until) > time.time() else None
        except (BadSignature, ValueError):
            return None


def cookie_signer(token: str) -> Signer:
    """Signs the cookie, which says when it expires. Its key comes from the token.

    So a new token ends all cookies. The cookie has its end in it, not its beginning, because
    itsdangerous refuses a beginning that the clock of another process has not reached yet.
    """
    return Signer(token, salt=COOKIE, key_derivation="hmac", digest_method=hashlib.sha256)


def bearer_of(asked: Request) -> str:
    """The text of `Authorization: Bearer`; empty where the request has none."""
    scheme, _, given = asked.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
