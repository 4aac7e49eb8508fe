"""The log of one attempt of a job: its lines, how Redis has them, and how they are read.

Redis has a stream for each attempt. An entry is a chunk: some lines as a JSON array. The id of an
entry is `<bytes until its end>-<its own bytes>`, counted from the first line of the attempt, so
that the ids alone say what the log has, and whether its beginning was dropped.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from service.results.short import shorten

MAX_BYTES: Final = 262_144  # of one attempt's log
MAX_TEXT: Final = 8_192  # characters of a line
PRINT: Final = 0  # the level of what was printed, which has none
FIELD: Final = "lines"  # of an entry
START: Final = "-"  # read from the beginning
_ENCODER: Final = msgspec.json.Encoder()


class LogLine(msgspec.Struct, array_like=True, frozen=True):
    """One log record, or one printed line.

    `at` is in seconds since 1970. `source` names the logger, or `stdout` or `stderr`.
    """

    at: float
    level: int
    source: str
    text: str


class LogPart(msgspec.Struct, frozen=True):
    """Lines of a log; `after` is where the next read goes on.

    `is_cut` tells that the log had lines before these that Redis has not any more.
    """

    lines: list[LogLine]
    after: str
    is_cut: bool = False


def make_line(at: float, level: int, source: str, text: str) -> LogLine:
    """A line; the middle of a long text is cut."""
    return LogLine(at, level, source[:255], shorten(text, MAX_TEXT))


def encode_lines(lines: Iterable[LogLine]) -> bytes:
    """A chunk; half characters, which UTF-8 has not, are escaped as JSON does."""
    lines = [*lines]
    try:
        return _ENCODER.encode(lines)  # in a fifth of the time
    except UnicodeEncodeError:
        text = json.dumps([msgspec.structs.astuple(line) for line in lines], ensure_ascii=False)
        return text.encode(errors="backslashreplace")


async def read_log(client: Redis, key: str, after: str = START) -> LogPart:
    """The lines of a log after this place; whatever cannot be read is left out.

    Raises RedisError.
    """
    start = START if after == START else f"({after}"
    entries: Any = await client.xrange(key, start, "+")
    if not entries:
        return LogPart([], after)
    lines = [line for _, fields in entries for line in _decoded(fields.get(FIELD.encode(), b""))]
    end, _, size = entries[0][0].decode().partition("-")
    return LogPart(lines, entries[-1][0].decode(), after == START and int(end) > int(size))


def _decoded(chunk: bytes) -> Iterator[LogLine]:
    try:
        # Python's own JSON, which takes half characters.
        yield from msgspec.convert(json.loads(chunk), list[LogLine])
    except (ValueError, RecursionError):
        return
