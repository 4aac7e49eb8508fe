"""What all codecs have in common, and the codec of `Any`."""

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
from kombu.utils.json import dumps

# The classes that Kombu's JSON brings back as they were.
KOMBU_TYPES: Final = (datetime, date, time, Decimal, UUID, bytes)
_PLACE: Final = re.compile(r" - at `(?:key in )?\$(.*)`\Z")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


class MisfitError(ValueError):
    """A value does not fit its annotation; `path` leads to the place inside the value."""

    def __init__(self, reason: str, path: Sequence[str | int] = ()) -> None:
        self.reason = reason
        self.path = tuple(path)
        super().__init__(reason)

    @classmethod
    def of(cls, error: Exception) -> "MisfitError":
        """What msgspec says: of its place, `$.items[2][...]`, as much as is told."""
        if isinstance(error, RecursionError):
            return cls("it is nested too deeply")
        reason, place, *_ = [*_PLACE.split(str(error)), ""]
        steps = _STEP.findall(place.partition("[...]")[0])
        path = [int(number) if number else name for name, number in steps]
        inner = error.__cause__  # of a codec that msgspec has asked
        return cls(reason, [*path, *(inner.path if isinstance(inner, MisfitError) else ())])


class UncarriableError(ValueError):
    """No message can carry the values of an annotation; the text says why."""


class Codec(Protocol):
    """Makes JSON of the values of one annotation, and back.

    JSON is here what `json.loads` gives, with values of KOMBU_TYPES in it.
    """

    exact: type | None  # a value of just this class is its own JSON; saves asking
    is_sent_as_is: bool  # `check` gives back what it is given
    arrives_as_is: bool  # `decode` gives back what it is given
    schema_type: Any  # what msgspec makes the JSON Schema of, with jobs/schema.py's hook

    def check(self, value: Any) -> Any:
        """The JSON of a value. Raises MisfitError."""

    def decode(self, found: Any) -> Any:
        """The value of JSON. Raises MisfitError."""


class _AnyCodec:
    """The codec of values that are JSON, as far as anyone knows: they are left alone."""

    exact: type | None = None
    is_sent_as_is = arrives_as_is = True
    schema_type = Any

    def check(self, value: Any) -> Any:
        """The value."""
        return value

    def decode(self, found: Any) -> Any:
        """What was found."""
        return found


ANY: Final = _AnyCodec()


class LeftToCelery:
    """The codec of a model of a task with Celery's own `pydantic=True`.

    Celery dumps the model where it is sent, and makes one again in the worker.
    """

    exact: type | None = None
    is_sent_as_is = True

    def __init__(self, codec: Codec, *, is_result: bool) -> None:
        self.arrives_as_is = not is_result
        self.schema_type = codec.schema_type
        self.decode = codec.decode  # for HTTP, and for the result

    def check(self, value: Any) -> Any:
        """The value."""
        return value


# What converting may raise on a value.
CONVERSION_ERRORS: Final = (msgspec.ValidationError, OverflowError, RecursionError)


def is_encodable(value: Any) -> bool:
    """Whether Kombu's JSON can carry the value."""
    try:
        dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def is_one_of(annotation: Any, known: Iterable[Any]) -> bool:
    """Whether it is one of these; `in` would ask for a hash, which an Annotated may not have."""
    return any(annotation is each for each in known)
