"""Declares one setting as a field: its default, what reads it, its meaning and unit."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import field
from typing import Any, Final

_NOT_A_NUMBER: Final = (TypeError, ValueError, OverflowError)


def setting(
    default: Any,
    parse: Callable[[Any], Any],
    meaning: str,
    unit: str = "",
    *,
    secret: bool = False,
) -> Any:
    """A setting whose value `parse` reads; the value of a `secret` one is not shown."""
    return field(
        default=default,
        repr=not secret,
        metadata={"parse": parse, "meaning": meaning, "unit": unit},
    )


def seconds(default: float, meaning: str, *, or_zero: bool = False) -> Any:
    """A setting in seconds, above 0 unless it may be that, too."""

    def parse(value: Any) -> float:
        with suppress(*_NOT_A_NUMBER):
            if 0 < (given := float(value)) < float("inf") or (or_zero and given == 0):
                return given
        raise ValueError(f"must be a number of seconds {'from 0 up' if or_zero else 'above 0'}")

    return setting(default, parse, meaning, "seconds")


def whole_number(value: Any) -> int:
    """A whole number from 0 up. Raises ValueError."""
    with suppress(*_NOT_A_NUMBER):
        if (number := int(value)) >= 0:
            return number
    raise ValueError("must be a whole number from 0 up")


def positive_int(value: Any) -> int:
    """A whole number from 1 up. Raises ValueError."""
    with suppress(*_NOT_A_NUMBER):
        if (number := int(value)) >= 1:
            return number
    raise ValueError("must be a whole number from 1 up")
