"""The lines of a job's log as operators read them: safe on a page, and in a terminal."""

import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from service.errors import ResultsUnavailableError
from service.logs.lines import on_one_line
from service.parts import Parts
from service.redis.bounded import bounded
from service.redis.keys import NO_START
from service.results.job_log import PRINT, START, LogLine, LogPart, read_log
from service.results.model import Result

MOST: Final = 500  # lines of a page; the text has all
_COLOURS: Final = re.compile("\x1b\\[[0-9;]*m")
_KINDS: Final = (
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
    (PRINT + 1, "debug"),
    (PRINT, "print"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `kind` is `debug`, `info`, `warning`, `error` or `print`, and `label` its name."""

    at: float
    kind: str
    label: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class LogView:
    """The log of an attempt, as far as a page shows it, and where its next line will be."""

    attempt: int
    rows: Sequence[Row] = ()
    after: str = START
    is_cut: bool = False


async def newest_lines(parts: Parts, result: Result) -> LogView:
    """Those of a job's present attempt, or of its last one; none where Redis does not answer."""
    with suppress(ResultsUnavailableError):
        rows, part = await read_rows(parts, result.id, result.started_at)
        return LogView(result.attempt, rows[-MOST:], part.after, part.is_cut or len(rows) > MOST)
    return LogView(result.attempt)


async def read_rows(
    parts: Parts, job_id: str, started_at: datetime | None, after: str = START
) -> tuple[list[Row], LogPart]:
    """The lines of the attempt which began then, and what Redis has of them.

    Raises ResultsUnavailableError.
    """
    start = started_at.isoformat() if started_at else NO_START
    async with bounded(parts.settings.redis_timeout):
        part = await read_log(parts.redis, parts.keys.job_log(job_id, start), after)
    return [_row_of(line) for line in part.lines], part


def as_text(rows: Iterable[Row]) -> str:
    """A log as a file; lines after the first one of a record are indented."""
    return "".join(
        f"{datetime.fromtimestamp(row.at, UTC):%Y-%m-%d %H:%M:%S.%f} {row.label}"
        f" {f'{row.source}: ' if row.source else ''}{row.text.replace(chr(10), chr(10) + '    ')}\n"
        for row in rows
    )


def _row_of(line: LogLine) -> Row:
    kind = next((name for least, name in _KINDS if line.level >= least), "print")
    text = "\n".join(
        on_one_line(each.replace("\t", "    "))
        for each in _COLOURS.sub("", line.text).splitlines() or [""]
    )
    source = on_one_line(line.source)
    if kind == "print":
        return Row(_time_of(line), kind, source, "", text)
    return Row(_time_of(line), kind, logging.getLevelName(line.level), source, text)


def _time_of(line: LogLine) -> float:
    """When it was logged, if that is a time that a page can show."""
    return line.at if 0 <= line.at < 253_402_300_800 else 0.0  # noqa: PLR2004  the year 10,000
