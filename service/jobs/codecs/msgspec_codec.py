"""The codec of what msgspec knows: dataclasses, Structs, enums, dates, lists, unions, …"""

import json
from collections.abc import Iterator
from enum import IntEnum
from pathlib import PurePath
from typing import Any, Final

import msgspec
from kombu.utils import json as kombu_json
from msgspec import inspect

from service.jobs.codecs.base import (
    CONVERSION_ERRORS,
    MisfitError,
    UncarriableError,
    is_encodable,
    is_one_of,
)
from service.jobs.codecs.models import (
    StandIn,
    codec_of,
    decode_other,
    is_known_to_pydantic,
    model_codec,
)


class _Form(IntEnum):
    """How values travel, from the simplest on; a list of some travels as its items do."""

    PLAIN = 0  # JSON has them
    KOMBU = 1  # Kombu's JSON has them, and brings back most
    OWN = 2  # msgspec makes JSON of them


_SCALARS: Final = (bool, int, float, str)
_PLAIN: Final = (
    *(inspect.AnyType, inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.FloatType),
    *(inspect.StrType, inspect.LiteralType, inspect.Metadata, inspect.UnionType, inspect.ListType),
)
_KOMBU: Final = (
    *(inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.UUIDType),
    *(inspect.DecimalType, inspect.BytesType, inspect.TupleType, inspect.VarTupleType),
    inspect.TypedDictType,
)


class MsgspecCodec:
    """The codec of one annotation."""

    def __init__(self, annotation: Any) -> None:
        """Raise UncarriableError for an annotation that msgspec does not take.

        Raises NameError for names in it that are not there yet.
        """
        classes: set[Any] = set()
        try:
            form = _form_of(inspect.type_info(annotation), classes)
        except TypeError as error:
            raise UncarriableError(str(error)) from error
        if form is _Form.OWN and any(_is_exact_union(cls) for cls in classes):
            raise UncarriableError("in a set, a class or the like, such a union is only text")
        self.type = self.schema_type = annotation
        self.exact: type | None = annotation if is_one_of(annotation, _SCALARS) else None
        self.is_sent_as_is = form < _Form.OWN
        self.arrives_as_is = form is _Form.PLAIN

    def check(self, value: Any) -> Any:
        """The JSON of a value. Raises MisfitError."""
        found = value if self.is_sent_as_is else encode_value(value)
        self._convert(found, str_keys=not self.is_sent_as_is)
        return found

    def decode(self, found: Any) -> Any:
        """The value of JSON. Raises MisfitError."""
        return self._convert(found, str_keys=True)

    def _convert(self, value: Any, *, str_keys: bool) -> Any:
        try:
            return msgspec.convert(value, self.type, str_keys=str_keys, dec_hook=decode_other)
        except CONVERSION_ERRORS as error:
            raise MisfitError.of(error) from error


def encode_value(value: Any) -> Any:
    """JSON of a value of any class that has a codec. Raises MisfitError for one that has none."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_encode_other)
    except MisfitError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise MisfitError(f"no JSON can be made of it: {error}") from error


def other_schema(cls: Any, ref_template: str) -> dict[str, Any]:
    """The JSON Schema of a class that msgspec does not know; what it refers to is in `$defs`."""
    if isinstance(cls, type) and issubclass(cls, PurePath) and not isinstance(cls, StandIn):
        return {"type": "string", "format": "path"}
    codec = codec_of(cls)
    return codec.schema(ref_template) if codec else {}


def is_kombu_type(cls: Any) -> bool:
    """Whether Kombu's JSON was taught the class, by its `register_type`."""
    known = tuple(getattr(kombu_json, "_encoders"))  # noqa: B009  there is no public name for it
    return isinstance(cls, type) and issubclass(cls, known)


def _encode_other(value: Any) -> Any:
    cls: Any = type(value)
    if is_known_to_pydantic(cls):
        return model_codec(cls).check(value)
    if isinstance(value, PurePath):
        return str(value)
    if not is_encodable(value):
        raise TypeError(f"a {type(value).__qualname__} is not JSON")
    return json.loads(kombu_json.dumps(value))


def _form_of(info: Any, classes: set[Any]) -> _Form:
    """How values of a type travel; adds the classes in it to those that were met already."""
    if isinstance(info, inspect.CustomType):
        classes.add(info.cls)
        return _form_of_class(info.cls)
    form = _form_without_parts(info)
    cls = getattr(info, "cls", None)
    if cls is not None:
        if cls in classes:
            return form
        classes.add(cls)
    return max([form, *(_form_of(part, classes) for part in _parts_of(info))])


def _form_without_parts(info: Any) -> _Form:
    if isinstance(info, inspect.DictType):
        if isinstance(info.key_type, inspect.StrType):
            return _Form.PLAIN
        return _Form.KOMBU if isinstance(info.key_type, inspect.IntType) else _Form.OWN
    if isinstance(info, _PLAIN):
        return _Form.PLAIN
    return _Form.KOMBU if isinstance(info, _KOMBU) else _Form.OWN


def _parts_of(info: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    for name in ("type", "item_type", "key_type", "value_type"):
        if hasattr(info, name):
            yield getattr(info, name)
    for name in ("types", "item_types"):
        yield from getattr(info, name, ())
    for field in getattr(info, "fields", ()):
        yield field.type


def _form_of_class(cls: Any) -> _Form:
    if isinstance(cls, StandIn):
        return _Form.KOMBU if cls.codec.is_sent_as_is else _Form.OWN
    if is_known_to_pydantic(cls):
        model_codec(cls)
        return _Form.OWN
    if issubclass(cls, PurePath):
        return _Form.OWN
    if is_kombu_type(cls):
        return _Form.KOMBU
    raise UncarriableError(f"no JSON can be made of a `{cls.__qualname__}` and back")


def _is_exact_union(cls: Any) -> bool:
    return isinstance(cls, StandIn) and cls.codec.is_sent_as_is
