"""The codec of annotations with pydantic in them, and what msgspec is to do where it meets one.

Pydantic is imported when the first is met.
"""

from collections.abc import Hashable
from functools import cache
from importlib import import_module
from pathlib import PurePath
from typing import Any, Final, get_args

from service.jobs.codecs.base import MisfitError, UncarriableError

# What pydantic's models, dataclasses, special types and validators have.
_MARKS: Final = ("__get_pydantic_core_schema__", "__pydantic_core_schema__")


def is_known_to_pydantic(annotation: Any) -> bool:
    """Whether the annotation, or a part of it, is for pydantic."""
    if any(hasattr(annotation, mark) for mark in _MARKS):
        return True
    if type(annotation).__module__.partition(".")[0] == "pydantic":
        return True  # a Field, or a Discriminator
    return any(is_known_to_pydantic(part) for part in get_args(annotation))


class ModelCodec:
    """The codec of one annotation: the JSON is that of pydantic's own `mode="json"`, by alias."""

    exact: type | None = None
    is_sent_as_is = arrives_as_is = False

    def __init__(self, annotation: Any) -> None:
        """Build pydantic's validator. Raises UncarriableError, and NameError for names in it."""
        try:
            pydantic: Any = import_module("pydantic")
            self._core: Any = import_module("pydantic_core")
            self._adapter = pydantic.TypeAdapter(annotation)
        except ImportError as error:
            raise UncarriableError("it needs pydantic 2, which is not installed") from error
        except (pydantic.errors.PydanticUserError, TypeError) as error:
            raise UncarriableError(f"pydantic says: {str(error).partition(chr(10))[0]}") from error
        self._errors = (
            *(pydantic.ValidationError, self._core.PydanticSerializationError),
            *(RecursionError, UnicodeDecodeError),
        )
        self.schema_type = StandIn("Model", (), {"codec": self})

    def check(self, value: Any) -> Any:
        """Also refuses a value that its own JSON would change: one with a secret in it, say."""
        try:
            typed = self._adapter.validate_python(value)
            found = self.encode(typed)
        except self._errors as error:
            raise _misfit(error, value) from error
        if self._plain(self.decode(found)) != self._plain(typed):
            raise MisfitError("its own JSON, of `model_dump`, does not give it back as it is")
        return found

    def encode(self, value: Any) -> Any:
        """The JSON of a value, which need not fit. Raises errors of pydantic's."""
        return self._adapter.dump_python(value, mode="json", by_alias=True, warnings=False)

    def decode(self, found: Any) -> Any:
        """The value of JSON. Raises MisfitError."""
        try:
            return self._adapter.validate_json(self._core.to_json(found))
        except self._errors as error:
            raise _misfit(error, found) from error

    def schema(self, ref_template: str) -> dict[str, Any]:
        """The JSON Schema, with what it refers to in `$defs`."""
        try:
            schema: dict[str, Any] = self._adapter.json_schema(
                ref_template=ref_template.replace("{name}", "{model}")
            )
        except Exception:  # noqa: BLE001  a validator of the user's own may have no schema
            return {}
        return schema

    def _plain(self, value: Any) -> Any:
        return self._adapter.dump_python(value, warnings=False)


@cache
def model_codec(cls: Hashable) -> ModelCodec:
    """The codec of a class of pydantic's, which is kept."""
    return ModelCodec(cls)


class StandIn(type):
    """The class of classes that stand for an annotation where msgspec has to see a class.

    Msgspec asks whether a decoded value is an instance; its codec has seen to that.
    """

    codec: Any

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


def codec_of(cls: Any) -> Any:
    """The codec of a class that stands for an annotation, or that is pydantic's, or None."""
    if isinstance(cls, StandIn):
        return cls.codec
    return model_codec(cls) if is_known_to_pydantic(cls) else None


def decode_other(cls: Any, found: Any) -> Any:
    """The value of a class that msgspec does not know, for its hook. Raises MisfitError."""
    codec = codec_of(cls)
    if codec is not None:
        return codec.decode(found)
    if isinstance(found, str) and issubclass(cls, PurePath):
        return cls(found)
    if not isinstance(found, cls):
        raise MisfitError(f"Expected `{cls.__name__}`")
    return found


def _misfit(error: Any, value: Any) -> MisfitError:
    """The first of pydantic's complaints, with the place in the value."""
    if isinstance(error, UnicodeDecodeError):
        return MisfitError(
            "pydantic writes bytes as UTF-8, and these are none: give the model"
            " `ConfigDict(ser_json_bytes='base64', val_json_bytes='base64')`"
        )
    if not hasattr(error, "errors"):
        return MisfitError(str(error) or "it is nested too deeply")
    first = error.errors(include_url=False, include_context=False)[0]
    path = _path_in(value, first["loc"])
    more = error.error_count() - 1
    return MisfitError(f"{first['msg']} (the first of {more + 1})" if more else first["msg"], path)


def _path_in(value: Any, location: tuple[Any, ...]) -> tuple[str | int, ...]:
    """The part of pydantic's location that is in the value: it also names members of unions."""
    path: list[str | int] = []
    for part in location:
        is_there = isinstance(value, dict | list | tuple) and (
            part in value if isinstance(value, dict) else part in range(len(value))
        )
        if is_there:
            value = value[part]
            path.append(part)
    return (*path,)
