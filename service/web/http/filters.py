"""Formats numbers, times and text for pages; pure but for the time that it is."""

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from markupsafe import Markup, escape

UNKNOWN: Final = "\N{EN DASH}"
_UNITS: Final = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))  # seconds
_PRECISE_BELOW: Final = 10
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT_ID: Final = 16  # letters


def duration(seconds: float | None) -> str:
    """`13 ms`, `1.3 s`, `2 min 5 s`, `3 h 4 min`, `2 d 3 h`; a dash where it is unknown."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < _PRECISE_BELOW:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, part, part_name in _UNITS:
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def elapsed(since: datetime) -> str:
    """The time since a moment, as `duration` has it."""
    return duration(max(0.0, (datetime.now(UTC) - since).total_seconds()))


def number(count: int | None) -> str:
    """`0`, `120`, `3,400`, or `unknown`."""
    return "unknown" if count is None else f"{count:,}"


def rate(per_second: float | None) -> str:
    """`0`, `0.2`, `3.5`, `120`, `3,400`: jobs in a second; a dash where it is unknown."""
    if per_second is None:
        return UNKNOWN
    if per_second == 0:
        return "0"
    if per_second < _PRECISE_BELOW:
        return f"{per_second:.1f}" if per_second >= 0.05 else "<0.1"  # noqa: PLR2004  rounds to 0.1
    return f"{round(per_second):,}"


def percent(part: float, whole: float) -> str:
    """`0 %`, `0.4 %`, `12 %`; a dash where there is nothing to divide."""
    if not whole:
        return UNKNOWN
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < _PRECISE_BELOW else f"{share:.0f} %"


def iso(moment: datetime | float | None) -> str:
    """A moment as HTML's `datetime` attribute has it; empty where it is unknown."""
    if moment is None:
        return ""
    if not isinstance(moment, datetime):
        try:
            moment = datetime.fromtimestamp(moment, UTC)
        except (OverflowError, ValueError, OSError):  # beyond the years 1 to 9999
            return ""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(moment: datetime | float | None) -> str:
    """A moment in UTC, which the page's script replaces by local time."""
    text = iso(moment)
    return f"{text[:10]} {text[11:19]} UTC" if text else UNKNOWN


def pretty(value: Any) -> str:
    """JSON on several lines, for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def short_id(job_id: str) -> str:
    """As much of an id as a row has room for: the first eight letters of a UUID."""
    if len(job_id) <= _SHORT_ID:
        return job_id
    return job_id[:8] if _UUID.fullmatch(job_id) else f"{job_id[:_SHORT_ID]}…"


def bars(values: Sequence[int], height: int) -> str:
    """The path of a bar chart as SVG has it; a value of more than nothing is always seen."""
    most = max(values, default=0) or 1
    return "".join(
        f"M{at} {height}v-{max(1.0, value * height / most):.1f}h.8V{height}z"
        for at, value in enumerate(values)
        if value
    )


def with_code(text: str) -> Markup:
    """A docstring's text as HTML, in which `this` is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        return escape(text)
    html = [Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts)]
    return Markup("").join(html)  # escapes the other parts


def printable(text: str) -> str:
    """Text without the lone surrogates that a job's text may have and UTF-8 has not."""
    return text if text.isascii() else text.encode(errors="replace").decode()


FILTERS: Final = {
    "duration": duration,
    "elapsed": elapsed,
    "number": number,
    "rate": rate,
    "percent": percent,
    "iso": iso,
    "clock": clock,
    "short_id": short_id,
    "bars": bars,
    "with_code": with_code,
    # JSON on one line, which a template must still escape.
    "tojson_plain": partial(json.dumps, ensure_ascii=False),
}
