"""Unions that msgspec does not take, and the classes that stand for these in an annotation."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import combinations
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from service.jobs.codecs.base import (
    CONVERSION_ERRORS,
    KOMBU_TYPES,
    MisfitError,
    UncarriableError,
    is_one_of,
)
from service.jobs.codecs.models import StandIn, decode_other

# A value of these comes back as the class that it was, so that nothing has to be told apart.
_EXACT: Final = (NoneType, bool, int, float, str, *KOMBU_TYPES)
_HINT: Final = "Make them msgspec.Structs with a `tag`, or have fields that tell them apart."
_OBJECTS: Final = (inspect.DataclassType, inspect.TypedDictType, inspect.StructType)


def with_stand_ins(annotation: Any) -> Any:
    """The annotation as msgspec takes it: a class stands for each union that it would refuse.

    Not inside of classes. Raises UncarriableError for a union whose members cannot be told apart.
    """
    if annotation is object or isinstance(annotation, TypeVar):
        return Any
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(with_stand_ins(args[0]), *args[1:])]
    if origin in {None, Literal, Callable}:
        return annotation
    parts = [with_stand_ins(part) for part in args]
    if origin in {Union, UnionType}:
        union = reduce(or_, parts)
        refused = _why_refused(union)
        return _stand_in_for(parts, refused) if refused else union
    if origin is Iterable:
        return list[parts[0]]  # type: ignore[valid-type]  # made here
    return annotation if parts == [*args] else origin[(*parts,)]


class ExactUnion:
    """Of values that come back as the classes that they were."""

    is_sent_as_is = True

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = members

    def decode(self, found: Any) -> Any:
        """The first member that takes the value, unless it is of one already."""
        if is_one_of(type(found), self.members):
            return found
        for member in self.members:
            try:
                return msgspec.convert(found, member)
            except CONVERSION_ERRORS:
                continue
        raise MisfitError(f"Expected `{_names_of(self.members)}`, got `{type(found).__name__}`")

    def schema(self, ref_template: str) -> dict[str, Any]:
        """The JSON Schema, with what it refers to in `$defs`."""
        return _any_of(self.members, ref_template)


class ObjectUnion:
    """Of classes that are told apart by the names of their fields, and of what is no object."""

    is_sent_as_is = False

    def __init__(self, objects: Sequence[Any], rest: Sequence[Any]) -> None:
        """Raise UncarriableError where the same names could be those of two classes."""
        self.members = [*objects, *rest]
        self._objects = [(member, *_fields_of(member)) for member in objects]
        self._rest = reduce(or_, rest) if rest else None
        for (one, needed, names), (other, others_needed, others_names) in combinations(
            self._objects, 2
        ):
            if needed <= others_names and others_needed <= names:
                pair = _names_of([one, other])
                raise UncarriableError(f"in JSON `{pair}` cannot be told apart. {_HINT}")

    def decode(self, found: Any) -> Any:
        """A value of the one class whose fields these are."""
        if is_one_of(type(found), self.members):
            return found  # in Celery's `apply`, which makes no JSON
        if not isinstance(found, dict):
            return self._convert(found, self._rest)
        for member, needed, names in self._objects:
            if needed <= found.keys() <= names:
                return self._convert(found, member)
        raise MisfitError(f"Expected `{_names_of(self.members)}`: these are the fields of none")

    def schema(self, ref_template: str) -> dict[str, Any]:
        """The JSON Schema, with what it refers to in `$defs`."""
        return _any_of(self.members, ref_template)

    def _convert(self, found: Any, member: Any) -> Any:
        if member is None:
            raise MisfitError(f"Expected `{_names_of(self.members)}`, got `{type(found).__name__}`")
        try:
            return msgspec.convert(found, member, str_keys=True, dec_hook=decode_other)
        except CONVERSION_ERRORS as error:
            raise MisfitError.of(error) from error


def _stand_in_for(parts: Sequence[Any], refused: str) -> StandIn:
    if all(is_one_of(part, _EXACT) for part in parts):
        return StandIn("ExactUnion", (), {"codec": ExactUnion(parts)})
    infos = [_info_of(part) for part in parts]
    objects = [part for part, info in zip(parts, infos, strict=True) if isinstance(info, _OBJECTS)]
    rest = [part for part in parts if not is_one_of(part, objects)]
    others = [info for info in infos if not isinstance(info, _OBJECTS)]
    if any(isinstance(info, inspect.DictType | inspect.CustomType) for info in others):
        raise UncarriableError(refused)
    if len(objects) < 2 or (rest and _why_refused(reduce(or_, rest))):  # noqa: PLR2004
        raise UncarriableError(refused)
    return StandIn("ObjectUnion", (), {"codec": ObjectUnion(objects, rest)})


def _why_refused(union: Any) -> str:
    try:
        inspect.type_info(union)
    except TypeError as error:
        return str(error)
    return ""


def _info_of(part: Any) -> Any:
    info = inspect.type_info(part)
    return info.type if isinstance(info, inspect.Metadata) else info


def _fields_of(member: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the fields that JSON of a class has to have, and of all that it may have."""
    info = _info_of(member)
    needed = {field.encode_name for field in info.fields if field.required}
    names = {field.encode_name for field in info.fields}
    tag = {info.tag_field} if getattr(info, "tag_field", None) else set()
    return frozenset(needed | tag), frozenset(names | tag)


def _any_of(members: Sequence[Any], ref_template: str) -> dict[str, Any]:
    schemas, components = msgspec.json.schema_components(
        members, schema_hook=lambda cls: {"title": cls.__name__}, ref_template=ref_template
    )
    return {"anyOf": [*schemas], "$defs": components}


def _names_of(members: Iterable[Any]) -> str:
    return " | ".join(getattr(member, "__name__", str(member)) for member in members)
