"""Reads what a task takes and returns: its parameters, each with the codec of its annotation."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from service.errors import ConfigurationError
from service.jobs.codecs import (
    ANY,
    Codec,
    LeftToCelery,
    UncarriableError,
    codec_for,
    hints_of,
    is_model,
)

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_EMPTY: Final = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class TaskParameter:
    """A parameter of a task's function."""

    name: str
    codec: Codec
    required: bool
    default: Any
    by_position: bool  # it cannot be given by name


@dataclass(frozen=True, slots=True)
class TaskParameters:
    """The parameters of a task's function, without the task itself; `unread` says why which
    annotations cannot be read, by the name of the parameter.
    """

    positional: Sequence[TaskParameter]
    named: Sequence[TaskParameter]
    var_positional: Codec | None
    var_keyword: Codec | None
    returns: Codec
    unread: Mapping[str, str]


def read_parameters(
    task: str,
    function: Callable[..., Any],
    *,
    bound: bool,
    pydantic: bool,
    ignore_result: bool,
) -> TaskParameters:
    """The parameters. Raises ConfigurationError for an annotation that no message can carry."""
    hints, unread = hints_of(function)
    reader = _Reader(task, hints, unread, pydantic=pydantic)
    own = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
    codecs = {each.name: reader.codec(each.name) for each in own}
    of_kind = {each.kind: codecs[each.name] for each in own}
    parameters = [_parameter(each, codecs[each.name]) for each in own]
    return TaskParameters(
        [p for p, each in zip(parameters, own, strict=True) if each.kind in _POSITIONAL],
        [p for p, each in zip(parameters, own, strict=True) if each.kind is each.KEYWORD_ONLY],
        of_kind.get(inspect.Parameter.VAR_POSITIONAL),
        of_kind.get(inspect.Parameter.VAR_KEYWORD),
        ANY if ignore_result else reader.codec("return"),
        unread,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    task: str
    hints: Mapping[str, Any]
    unread: dict[str, str]
    pydantic: bool = field(kw_only=True)

    def codec(self, name: str) -> Codec:
        """The codec of a parameter, or of `return`; ANY where the annotation cannot be read."""
        annotation = self.hints.get(name, Any)
        try:
            codec = codec_for(annotation)
        except NameError as error:  # of a class's field
            self.unread[name] = str(error)
            return ANY
        except UncarriableError as error:
            what = "The result" if name == "return" else f"Argument {name!r}"
            shown = inspect.formatannotation(annotation)
            raise ConfigurationError(
                f"{what} of task {self.task!r} is a {shown}, which no message can carry: {error}."
            ) from error
        if self.pydantic and is_model(annotation):
            return LeftToCelery(codec, is_result=name == "return")
        return codec


def _parameter(parameter: inspect.Parameter, codec: Codec) -> TaskParameter:
    return TaskParameter(
        name=parameter.name,
        codec=codec,
        required=parameter.default is _EMPTY,
        default=None if parameter.default is _EMPTY else parameter.default,
        by_position=parameter.kind is parameter.POSITIONAL_ONLY,
    )
