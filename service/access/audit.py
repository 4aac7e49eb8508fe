"""The audit: a line for each act of an operator, logged and kept in Redis; the last 10,000 stay."""

import logging
import os
import pwd
import time
from contextlib import suppress
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from service.errors import ResultsUnavailableError
from service.redis.bounded import bounded
from service.redis.keys import ResultKeys

logger: Final = logging.getLogger("service.audit")

_KEPT: Final = 10_000
_COMMAND_LINE: Final = "the command line"  # in place of an address
_MAX_TEXT: Final = 300  # characters of a field, of which some come from outside


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to what, when (in seconds since 1970), and from which address.

    `address` says so for what was done from the command line, and is empty for an unknown one.
    """

    who: str
    act: str
    what: str
    address: str
    at: float


class Audit:
    """The audit of an app."""

    def __init__(self, client: Redis, keys: ResultKeys, *, timeout: float) -> None:
        self._client: Any = client
        self._key = keys.audit
        self._timeout = timeout

    async def add(self, who: str, act: str, what: str = "", address: str = "") -> None:
        """Note an act. One that Redis cannot take is in the log alone; this raises nothing."""
        parts = [_line_of(text) for text in (who, act, what, address)]
        line = AuditLine(
            who=parts[0], act=parts[1], what=parts[2], address=parts[3], at=time.time()
        )
        logger.info("%s: %s %s, from %s", line.who, line.act, line.what, line.address or "here")
        try:
            async with bounded(self._timeout):
                fields = {"line": msgspec.json.encode(line)}
                await self._client.xadd(self._key, fields, maxlen=_KEPT, approximate=True)
        except ResultsUnavailableError as error:
            logger.warning("This act is not kept in Redis: %s", error)

    async def add_by_command(self, act: str, what: str) -> None:
        """Note an act of the operating system's user, from the command line."""
        await self.add(system_user(), act, what, _COMMAND_LINE)

    async def page(self, *, number: int, size: int) -> tuple[list[AuditLine], int]:
        """A page of the lines, newest first, and how many there are.

        Raises ResultsUnavailableError.
        """
        async with bounded(self._timeout):
            total = int(await self._client.xlen(self._key))
            entries = await self._client.xrevrange(self._key, count=number * size)
        lines: list[AuditLine] = []
        for _, fields in entries[(number - 1) * size :]:
            with suppress(msgspec.MsgspecError, KeyError):
                lines.append(msgspec.json.decode(fields[b"line"], type=AuditLine))
        return lines, total


def system_user() -> str:
    """The name of the operating system's user."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may have no name for its user
        return f"uid {uid}"


def _line_of(text: str) -> str:
    """The text on one line, as UTF-8 has it."""
    plain = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return plain[:_MAX_TEXT].encode(errors="replace").decode()
