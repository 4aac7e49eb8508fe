"""Numbers, times and text as pages show them."""

from datetime import UTC, datetime

import pytest

from service.web.http.filters import UNKNOWN, clock, duration, iso, percent, rate, with_code


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, UNKNOWN),
        (float("inf"), UNKNOWN),
        (0, "0 ms"),
        (0.0134, "13 ms"),
        (1.26, "1.3 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (11_040, "3 h 4 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    """Two units at most: nobody needs the seconds of a day."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("per_second", "words"),
    [(0, "0"), (0.01, "<0.1"), (0.24, "0.2"), (12.4, "12"), (3400, "3,400")],
)
def test_rates(per_second: float, words: str) -> None:
    """Few is not none."""
    assert rate(per_second) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"), [(0, 0, UNKNOWN), (0, 9, "0 %"), (1, 200, "0.5 %"), (1, 4, "25 %")]
)
def test_shares(part: int, whole: int, words: str) -> None:
    """A share of nothing is not known."""
    assert percent(part, whole) == words


def test_moments() -> None:
    """For browsers, and for who has no script."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert iso(moment) == iso(moment.timestamp()) == "2026-01-02T03:04:05.678Z"
    assert clock(moment) == "2026-01-02 03:04:05 UTC"
    assert (iso(None), clock(None)) == ("", UNKNOWN)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("after `a < b` comes", "after <code>a &lt; b</code> comes"),
        ("<b> it`s", "&lt;b&gt; it`s"),
    ],
)
def test_code_in_text(text: str, html: str) -> None:
    """Escaped either way."""
    assert with_code(text) == html
