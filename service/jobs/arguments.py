"""Checks a call: its arguments against the signature of its task, and its options."""

import inspect
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final, NoReturn, TypedDict, Unpack, cast
from uuid import UUID

import msgspec
from kombu.utils.json import dumps

from service.errors import InvalidArgumentsError, InvalidJobIdError
from service.results.model import is_job_id

_HIGHEST_PRIORITY: Final = 9
_MAX_DEPTH: Final = 100  # of lists and objects; a few hundred end the process of a stock worker
_MAX_SHOWN: Final = 4_000  # characters of JSON; longer arguments are not shown
# Types that Kombu's JSON can encode and decode; other values are sent as the JSON that came.
_KOMBU_TYPES: Final = (datetime, date, time, Decimal, UUID)
# Kombu decodes an object with exactly these keys as a value of another type.
_RESERVED: Final = {"__type__", "__value__"}
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_EMPTY: Final = inspect.Parameter.empty


class SendOptions(TypedDict, total=False):
    """Celery's options of a call; one that is None or left out is up to the task and the routes.

    `countdown` is in seconds, `expires` in seconds or a moment, `priority` from 0 to 9 (on Redis
    0 is served first). Enqueueing the same `job_id` again makes no second job.
    """

    countdown: float | None
    eta: datetime | None
    queue: str | None
    priority: int | None
    expires: float | datetime | None
    job_id: str | None
    headers: Mapping[str, Any] | None


_OPTION_NAMES: Final = frozenset(SendOptions.__annotations__)
NO_OPTIONS: Final[SendOptions] = {}


def send_options(**options: Unpack[SendOptions]) -> SendOptions:
    """Check options, and leave out those that are None.

    Raises TypeError for an unknown name, ValueError and InvalidJobIdError for a wrong value.
    """
    if unknown := options.keys() - _OPTION_NAMES:
        raise TypeError(f"There is no option {min(unknown)!r}, only {sorted(_OPTION_NAMES)}.")
    given = cast("SendOptions", {k: value for k, value in options.items() if value is not None})
    job_id = given.get("job_id")
    if job_id is not None and not is_job_id(job_id):
        raise InvalidJobIdError(job_id)
    if "countdown" in given and "eta" in given:
        raise ValueError("Give `countdown` or `eta`, not both.")
    if not 0 <= (given.get("priority") or 0) <= _HIGHEST_PRIORITY:
        raise ValueError("`priority` is a whole number from 0 to 9.")
    return given


@dataclass(frozen=True, slots=True)
class TaskParameter:
    """A parameter of a task's function."""

    name: str
    type: Any  # `Any` where there is no annotation that msgspec knows
    required: bool
    default: Any
    by_position: bool  # it cannot be given by name


class Arguments:
    """The arguments that a task takes."""

    def __init__(self, task: str, function: Callable[..., Any], *, bound: bool = False) -> None:
        self.task = task
        signature = inspect.signature(function)
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError, AttributeError):
            hints = {}  # names that exist for type checkers only: no argument can be checked
        own = list(signature.parameters.values())[1 if bound else 0 :]
        self._positional = [_parameter(p, hints) for p in own if p.kind in _POSITIONAL]
        named = [_parameter(p, hints) for p in own if p.kind is p.KEYWORD_ONLY]
        self.parameters = [*self._positional, *named]
        self._by_name = {p.name: p for p in self.parameters if not p.by_position}
        self._var_positional = next(
            (_type_of(p, hints) for p in own if p.kind is p.VAR_POSITIONAL), None
        )
        self._var_keyword = next((_type_of(p, hints) for p in own if p.kind is p.VAR_KEYWORD), None)
        self.takes_any_name = self._var_keyword is not None
        self.returns = _checkable(hints.get("return", Any))

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise InvalidArgumentsError where the function would not take these."""
        positional = self._positional
        if len(args) > len(positional) and self._var_positional is None:
            reason = f"{len(positional)} can be given by position, not {len(args)}"
            self._refuse("", reason)
        for number, value in enumerate(args):
            if number < len(positional):
                self._convert(positional[number].name, positional[number].type, value)
            else:
                self._convert(f"*[{number}]", self._var_positional, value)
        taken = {parameter.name for parameter in positional[: len(args)]}
        for name, value in kwargs.items():
            if name in taken and name in self._by_name:
                self._refuse(name, "it is given twice, by position and by name")
            if name in _OPTION_NAMES and name not in self._by_name and not self.takes_any_name:
                self._refuse(name, f"the task has no such argument, but `.options({name}=…)` has")
            self._convert(name, self._type_named(name), value)
        for parameter in self.parameters:
            if not parameter.required or parameter.name in taken:
                continue
            if parameter.by_position or parameter.name not in kwargs:
                self._refuse(parameter.name, "it is required")

    def from_json(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make `args` and `kwargs` of a decoded JSON object of arguments by name.

        Raises InvalidArgumentsError.
        """
        for name, value in values.items():
            self._refuse_unsafe(name, value)
        known = {parameter.name: parameter for parameter in self.parameters}
        converted: dict[str, Any] = {}
        for name, value in values.items():
            expected = known[name].type if name in known else self._type_named(name)
            typed = self._convert(name, expected, value)
            converted[name] = typed if isinstance(typed, _KOMBU_TYPES) else value
        args: list[Any] = []
        for parameter in self.parameters:
            if parameter.name not in converted and parameter.required:
                self._refuse(parameter.name, "it is required")
            if parameter.by_position:
                args.append(converted.pop(parameter.name, parameter.default))
        return tuple(args), converted

    def refuse_unencodable(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
    ) -> NoReturn:
        """Raise InvalidArgumentsError, which names the first argument that is not JSON."""
        names = [parameter.name for parameter in self._positional]
        names += [f"*[{number}]" for number in range(len(names), len(args))]
        given = [*zip(names, args, strict=False), *kwargs.items()]
        name = next((name for name, value in given if not is_encodable(value)), "")
        self._refuse(name, f"no JSON can be made of it: {error}", error)

    def shown(
        self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """The arguments by name, as anyone may see them; None if they are too long or not JSON."""
        # In the order of the signature, in which those that can be given by position come first.
        shown = {parameter.name: parameter.default for parameter in self.parameters}
        shown.update(zip(shown, args or (), strict=False))
        shown.update(kwargs or {})
        try:
            size = len(json.dumps(shown, allow_nan=False))
        except (TypeError, ValueError, RecursionError):  # only Kombu's own JSON can carry them
            return None
        return shown if size <= _MAX_SHOWN else None

    def _type_named(self, name: str) -> Any:
        if name in self._by_name:
            return self._by_name[name].type
        if self._var_keyword is None:
            self._refuse(name, "the task has no such argument")
        return self._var_keyword

    def _convert(self, name: str, expected: Any, value: Any) -> Any:
        if expected is Any:
            return value
        try:
            return msgspec.convert(value, expected, dec_hook=_as_is)
        except (msgspec.ValidationError, OverflowError) as error:
            self._refuse(name, str(error), error)
        except RecursionError as error:
            self._refuse(name, "it is nested too deeply", error)

    def _refuse_unsafe(self, name: str, value: Any) -> None:
        level = [value]
        for _ in range(_MAX_DEPTH):
            if any(isinstance(each, dict) and each.keys() == _RESERVED for each in level):
                self._refuse(name, "an object of just `__type__` and `__value__` is reserved")
            level = [inner for each in level for inner in _inside(each)]
            if not level:
                return
        self._refuse(name, f"it is nested more than {_MAX_DEPTH} deep")

    def _refuse(self, name: str, reason: str, cause: Exception | None = None) -> NoReturn:
        raise InvalidArgumentsError(self.task, name, reason) from cause


def is_encodable(value: Any) -> bool:
    """Whether Kombu's JSON can carry the value."""
    try:
        dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        return iter(value.values())
    return iter(value if isinstance(value, list) else ())


def _parameter(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> TaskParameter:
    return TaskParameter(
        name=parameter.name,
        type=_type_of(parameter, hints),
        required=parameter.default is _EMPTY,
        default=None if parameter.default is _EMPTY else parameter.default,
        by_position=parameter.kind is parameter.POSITIONAL_ONLY,
    )


def _type_of(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    return _checkable(hints.get(parameter.name, Any))


def _checkable(annotation: Any) -> Any:
    """The annotation if msgspec can check values against it, else `Any`."""
    try:
        msgspec.json.Decoder(annotation)
        msgspec.json.schema(annotation, schema_hook=lambda _: {})
    except Exception:  # noqa: BLE001  an annotation can be any object, and fail in any way
        return Any
    return annotation


def _as_is(expected: type, value: Any) -> Any:
    """Accept an instance of a class that msgspec does not know."""
    if not isinstance(value, expected):
        raise msgspec.ValidationError(f"Expected `{expected.__name__}`")
    return value
