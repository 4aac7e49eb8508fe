"""Checks a call against the signature of its task; makes JSON of its arguments, and back."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from service.errors import InvalidArgumentsError, UnexpectedResultError, UnstorableResultError
from service.jobs.arguments.options import OPTION_NAMES
from service.jobs.arguments.parameters import read_parameters
from service.jobs.codecs import (
    KOMBU_TYPES,
    Codec,
    MisfitError,
    encode_value,
    is_encodable,
)

_MAX_DEPTH: Final = 100  # of lists and objects; a few hundred end the process of a stock worker
_MAX_SHOWN: Final = 4_000  # characters of JSON; longer arguments are not shown
# Kombu decodes an object with exactly these keys as a value of another type.
_RESERVED: Final = {"__type__", "__value__"}


class Arguments:
    """The arguments that a task takes, and its result, as they are annotated."""

    def __init__(
        self,
        task: str,
        function: Callable[..., Any],
        *,
        bound: bool = False,
        pydantic: bool = False,
        ignore_result: bool = False,
    ) -> None:
        """Choose the codecs. The last three are Celery's options of the task (`bind`, …).

        Raises ConfigurationError for an annotation whose values no message can carry.
        """
        self.task = task
        own = read_parameters(
            task, function, bound=bound, pydantic=pydantic, ignore_result=ignore_result
        )
        self.unread, self.returns = own.unread, own.returns
        self.parameters = [*own.positional, *own.named]
        self.takes_any_name = own.var_keyword is not None
        self.takes_any_number = own.var_positional is not None
        self._positional = own.positional
        self._at_position = [(p.name, p.codec) for p in own.positional]
        self._by_name = {p.name: p for p in self.parameters if not p.by_position}
        self._var_positional, self._var_keyword = own.var_positional, own.var_keyword
        codecs = [p.codec for p in self.parameters]
        codecs += [codec for codec in (self._var_positional, self._var_keyword) if codec]
        self.are_sent_as_they_are = all(codec.is_sent_as_is for codec in codecs)
        self.arrive_as_they_are = all(codec.arrives_as_is for codec in codecs)
        # Makes a job's value of its stored JSON; None where the JSON is the value.
        self.result_decoder = None if self.returns.arrives_as_is else self.decode_result

    def check(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The JSON of the arguments of a call.

        Raises InvalidArgumentsError where the function would not take these.
        """
        positional = self._positional
        if len(args) > len(positional) and self._var_positional is None:
            reason = f"{len(positional)} can be given by position, not {len(args)}"
            self._refuse("", reason)
        places = self._at_position if self._var_positional is None else self._places(len(args))
        sent = [
            value if type(value) is codec.exact else self._check(name, codec, value)
            for (name, codec), value in zip(places, args, strict=False)
        ]
        taken = {parameter.name for parameter in positional[: len(args)]}
        sent_by_name: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in taken and name in self._by_name:
                self._refuse(name, "it is given twice, by position and by name")
            if name in OPTION_NAMES and name not in self._by_name and not self.takes_any_name:
                self._refuse(name, f"the task has no such argument, but `.options({name}=…)` has")
            codec = self._codec_named(name)
            is_right = type(value) is codec.exact
            sent_by_name[name] = value if is_right else self._check(name, codec, value)
        self._refuse_tag(kwargs)
        for parameter in self.parameters:
            if not parameter.required or parameter.name in taken:
                continue
            if parameter.by_position or parameter.name not in kwargs:
                self._refuse(parameter.name, "it is required")
        return (args, kwargs) if self.are_sent_as_they_are else ((*sent,), sent_by_name)

    def encode(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The JSON of arguments that Celery's own means send: unchecked, as they may be a part.

        What no JSON can be made of stays as it is, for Celery to refuse.
        """
        if not self.are_sent_as_they_are:
            args = args and [_encoded(value) for value in args]
            kwargs = kwargs and {name: _encoded(value) for name, value in kwargs.items()}
        return args, kwargs

    def decode(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that a message has, as the function is to be called with them.

        Only the values are looked at: of a call that does not fit, Python says so. Raises
        InvalidArgumentsError.
        """
        places = self._places(len(args))
        found = [self._decode(*at, each) for at, each in zip(places, args, strict=False)]
        named: dict[str, Any] = {}
        for name, value in kwargs.items():
            codec = self._by_name[name].codec if name in self._by_name else self._var_keyword
            named[name] = self._decode(name, codec, value) if codec else value
        return (*found, *args[len(found) :]), named

    def from_json(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make `args` and `kwargs` of a decoded JSON object of arguments by name.

        Raises InvalidArgumentsError.
        """
        for name, value in values.items():
            self._refuse_unsafe(name, value)
        known = {parameter.name: parameter for parameter in self.parameters}
        converted: dict[str, Any] = {}
        for name, value in values.items():
            codec = known[name].codec if name in known else self._codec_named(name)
            converted[name] = value
            if type(value) is not codec.exact:
                try:
                    typed = codec.decode(value)
                except MisfitError as error:
                    self._refuse_misfit(name, error)
                if isinstance(typed, KOMBU_TYPES):
                    converted[name] = typed
        args: list[Any] = []
        for parameter in self.parameters:
            if parameter.name not in converted and parameter.required:
                self._refuse(parameter.name, "it is required")
            if parameter.by_position:
                args.append(converted.pop(parameter.name, _encoded(parameter.default)))
        self._refuse_tag(converted)
        return tuple(args), converted

    def encode_result(self, value: Any) -> Any:
        """The JSON of what the function returned. Raises UnstorableResultError."""
        try:
            return self.returns.check(value)
        except MisfitError as error:
            reason = f"What task {self.task!r} returned is not what it is annotated to return"
            raise UnstorableResultError(f"{reason}: {error.reason}{_place(error)}") from error

    def decode_result(self, found: Any) -> Any:
        """What the function returned, from its JSON. Raises UnexpectedResultError."""
        try:
            return self.returns.decode(found)
        except MisfitError as error:
            raise UnexpectedResultError(self.task, f"{error.reason}{_place(error)}") from error

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
            try:
                size = len(json.dumps(shown, allow_nan=False))
            except TypeError:  # dates and the like, which are shown as text
                shown = encode_value(shown)
                size = len(json.dumps(shown, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            return None
        return shown if size <= _MAX_SHOWN else None

    def _places(self, number: int) -> list[tuple[str, Codec]]:
        """The names and codecs of the first so many that are given by position."""
        places = self._at_position
        if self._var_positional is not None:
            more = range(len(places), number)
            places = [*places, *((f"*[{at}]", self._var_positional) for at in more)]
        return places

    def _codec_named(self, name: str) -> Codec:
        if name in self._by_name:
            return self._by_name[name].codec
        if self._var_keyword is None:
            self._refuse(name, "the task has no such argument")
        return self._var_keyword

    def _check(self, name: str, codec: Codec, value: Any) -> Any:
        try:
            return codec.check(value)
        except MisfitError as error:
            self._refuse_misfit(name, error)

    def _decode(self, name: str, codec: Codec, found: Any) -> Any:
        try:
            return found if codec.arrives_as_is else codec.decode(found)
        except MisfitError as error:
            self._refuse_misfit(name, error)

    def _refuse_tag(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse `__type__` and `__value__` as the only names: Kombu makes one value of both."""
        if self.takes_any_name and kwargs.keys() == _RESERVED:
            self._refuse("__type__", "just `__type__` and `__value__` by name are reserved")

    def _refuse_unsafe(self, name: str, value: Any) -> None:
        level = [value]
        for _ in range(_MAX_DEPTH):
            if any(isinstance(each, dict) and each.keys() == _RESERVED for each in level):
                self._refuse(name, "an object of just `__type__` and `__value__` is reserved")
            level = [inner for each in level for inner in _inside(each)]
            if not level:
                return
        self._refuse(name, f"it is nested more than {_MAX_DEPTH} deep")

    def _refuse_misfit(self, name: str, error: MisfitError) -> NoReturn:
        reason = f"{error.reason}{_place(error)}"
        raise InvalidArgumentsError(self.task, name, reason, error.path) from error

    def _refuse(self, name: str, reason: str, cause: Exception | None = None) -> NoReturn:
        raise InvalidArgumentsError(self.task, name, reason) from cause


def _place(error: MisfitError) -> str:
    """Where in a value: ` - at `$.items[2].x``, as msgspec has it."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.path]
    return f" - at `${''.join(steps)}`" if steps else ""


def _encoded(value: Any) -> Any:
    if not is_encodable(value):
        with suppress(MisfitError):
            return encode_value(value)
    return value


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        return iter(value.values())
    return iter(value if isinstance(value, list) else ())
