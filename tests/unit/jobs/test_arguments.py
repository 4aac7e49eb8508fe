"""What a task takes is told before anything is sent, by the name of the argument."""

import json
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidArgumentsError, UnexpectedResultError
from service.jobs.arguments import Arguments
from service.jobs.schema import task_schemas
from tests.unit.jobs.test_codecs import CASES


@dataclass
class Point:
    """A place."""

    x: int
    y: int = 0


@dataclass
class Other:
    """Something else."""

    z: int


class Model(pydantic.BaseModel):
    """Of pydantic's."""

    x: int


def typed(a: int, b: str = "b", *, flag: bool = False, at: datetime | None = None) -> list[int]:
    """Never called."""
    raise NotImplementedError(a, b, flag, at)


def untyped(a, b=2, *rest, **more):  # type: ignore[no-untyped-def]
    """Never called."""


def structured(point: Point, numbers: Annotated[list[int], msgspec.Meta(max_length=3)]) -> Point:
    """Never called."""
    raise NotImplementedError(point, numbers)


def by_position(a: int, /, b: int = 1) -> None: ...


def all_more(*numbers: int, **named: str) -> None: ...


def bound(self: Any, a: int) -> None: ...


def unknown_annotation(a: "NoSuchName") -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (typed, (1,), {}),
        (typed, (1, "x"), {"flag": True}),
        (typed, (), {"a": 1, "at": datetime(2026, 1, 1)}),
        (untyped, (1, 2, 3), {"c": 4}),
        (structured, ({"x": 1}, [1, 2]), {}),
        (structured, (Point(1), (1, 2)), {}),
        (by_position, (1,), {"b": 2}),
        (all_more, (1, 2), {"x": "y"}),
        (unknown_annotation, ("anything",), {}),
    ],
)
def test_a_call_that_fits_is_taken(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """As Python would, and as the annotations say."""
    Arguments("t", function).check(args, kwargs)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "argument"),
    [
        (typed, (), {}, "a"),
        (typed, ("x",), {}, "a"),
        (typed, (True,), {}, "a"),
        (typed, (1,), {"a": 1}, "a"),
        (typed, (1,), {"c": 1}, "c"),
        (typed, (1, "b", True), {}, ""),
        (typed, (1,), {"flag": "yes"}, "flag"),
        (structured, ({"x": "1"}, []), {}, "point"),
        (structured, ({"x": 1}, [1, 2, 3, 4]), {}, "numbers"),
        (by_position, (), {"a": 1}, "a"),
        (all_more, (1, "2"), {}, "*[1]"),
        (all_more, (), {"x": 1}, "x"),
    ],
)
def test_a_call_that_does_not_fit_names_the_argument(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argument: str
) -> None:
    """So that a client can tell its user which field is wrong."""
    with pytest.raises(InvalidArgumentsError) as caught:
        Arguments("t", function).check(args, kwargs)
    assert caught.value.argument == argument
    assert caught.value.reason


def test_a_bound_task_s_first_argument_is_not_the_caller_s() -> None:
    """Celery gives it."""
    arguments = Arguments("t", bound, bound=True)
    arguments.check((1,), {})
    assert [parameter.name for parameter in arguments.parameters] == ["a"]


def test_json_becomes_what_kombu_carries() -> None:
    """A moment comes as text in JSON, and arrives in the task as a moment."""
    args, kwargs = Arguments("t", typed).from_json({"a": 1, "at": "2026-01-01T00:00:00Z"})
    assert args == ()
    assert kwargs["at"].year == 2026
    assert Arguments("t", by_position).from_json({"a": 1}) == ((1,), {})

    def with_default(point: Point | Other = Point(1), /) -> None: ...  # noqa: B008  not changed

    assert Arguments("t", with_default).from_json({}) == (({"x": 1, "y": 0},), {})
    assert Arguments("t", with_default).decode((Point(2),), {}) == ((Point(2),), {})


@pytest.mark.parametrize(
    "value", [{"__type__": "x", "__value__": 1}, [{"k": {"__type__": 1, "__value__": 2}}]]
)
def test_what_kombu_would_read_otherwise_is_refused(value: object) -> None:
    """A worker would drop the whole job without a word."""
    with pytest.raises(InvalidArgumentsError, match="reserved"):
        Arguments("t", untyped).from_json({"a": value})


def test_deep_nesting_is_refused() -> None:
    """Some hundred levels end a stock worker, and the next one after it."""
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    with pytest.raises(InvalidArgumentsError, match="nested"):
        Arguments("t", untyped).from_json({"a": value})


def test_an_option_among_the_arguments_is_told_its_place() -> None:
    """Who knows Celery's `apply_async` looks for it there. A client of HTTP has no use for that."""
    arguments = Arguments("t", typed)
    with pytest.raises(InvalidArgumentsError, match=r"`\.options\(countdown=…\)` has"):
        arguments.check((1,), {"countdown": 3})
    with pytest.raises(InvalidArgumentsError, match=r"no such argument$"):
        arguments.from_json({"a": 1, "countdown": 3})
    Arguments("t", untyped).check((1,), {"countdown": 3})


def test_the_place_of_a_mistake_is_told() -> None:
    """By the argument, the path inside of it, and in words."""
    with pytest.raises(InvalidArgumentsError, match=r"`\$\.x`") as caught:
        Arguments("t", structured).from_json({"point": {"x": "1"}, "numbers": []})
    assert (caught.value.argument, caught.value.path) == ("point", ("x",))
    assert copy(caught.value).path == ("x",)  # made again as pickle, and so Celery, does it


def test_what_is_shown_is_text_where_json_has_no_such_value() -> None:
    """Dates and the like, defaults among them; what strict JSON has not is not shown."""
    arguments = Arguments("t", typed)
    shown = arguments.shown((1,), {"at": datetime(2026, 1, 1)})
    assert shown == {"a": 1, "b": "b", "flag": False, "at": "2026-01-01T00:00:00"}
    assert arguments.shown((float("nan"),), {}) is None
    assert arguments.shown(("x" * 5000,), {}) is None


def test_a_part_of_a_call_is_made_json_where_it_has_to_be() -> None:
    """A signature's arguments come after those that are not known yet."""
    arguments = Arguments("t", structured)
    assert arguments.encode((Point(1), 2), None) == ([{"x": 1, "y": 0}, 2], None)
    assert Arguments("t", typed).encode((Point(1),), {}) == ((Point(1),), {})


def test_celery_s_own_pydantic_option_is_left_its_models() -> None:
    """Celery dumps them after us, and makes them again in the worker."""

    def takes(model: Model, other: Model | None, point: Point) -> Model:
        raise NotImplementedError(model, other, point)

    arguments = Arguments("t", takes, pydantic=True)
    model = Model(x=1)
    sent, _ = arguments.check((model, None, Point(1)), {})
    assert sent == (model, None, {"x": 1, "y": 0})
    assert arguments.decode(({"x": 1}, None, {"x": 1}), {})[0] == ({"x": 1}, None, Point(1))
    assert arguments.encode_result({"x": 1}) == {"x": 1}
    assert arguments.decode_result({"x": 1}) == model
    with pytest.raises(UnexpectedResultError):
        arguments.decode_result({"x": "x"})
    with pytest.raises(InvalidArgumentsError):
        arguments.from_json({"model": {"x": "x"}, "other": None, "point": {"x": 1}})


def test_schemas_know_what_msgspec_does_not() -> None:
    """Pydantic's models and the unions that are told apart here, with what they refer to."""

    def takes(model: Model, either: Point | Other | None, at: datetime | str) -> list[Model]:
        raise NotImplementedError(model, either, at)

    taken, given, components = task_schemas(Arguments("t", takes), "#/x/{name}")
    assert taken["properties"]["model"]["properties"]["x"]["type"] == "integer"
    assert {"$ref": "#/x/Other"} in taken["properties"]["either"]["anyOf"]
    assert {"type": "string"} in taken["properties"]["at"]["anyOf"]
    assert given["items"] == {"$ref": "#/x/Model"}
    assert set(components) == {"Point", "Other", "Model"}
    json.dumps([taken, given, components])


def test_a_moment_is_told_as_one_wherever_it_is() -> None:
    """By which generated clients, and the form, know it from other text."""

    @dataclass
    class Visit:
        at: datetime
        until: datetime | None
        others: list["datetime | None"]
        name: str

    def takes(visits: list[Visit], one: Visit | int, at: datetime | None) -> datetime:
        raise NotImplementedError(visits, one, at)

    taken, given, components = task_schemas(Arguments("t", takes), "#/x/{name}")
    moment = {"type": "string", "format": "date-time"}
    found = components["Visit"]["properties"]
    assert given == found["at"] == moment
    assert found["until"]["anyOf"] == [moment, {"type": "null"}]
    assert found["others"]["items"]["anyOf"] == [moment, {"type": "null"}]
    assert taken["properties"]["at"]["anyOf"] == [moment, {"type": "null"}]
    assert found["name"] == {"type": "string"}


@pytest.mark.parametrize("annotation", [annotation for annotation, _ in CASES])
def test_every_annotation_has_a_schema(annotation: Any) -> None:
    """Alone, and in what else there is."""

    def takes(one: Any, many: Any, rest: list[Any], more: list[Any] | None) -> Any:
        raise NotImplementedError(one, many, rest, more)

    takes.__annotations__ |= {"one": annotation, "many": list[annotation], "return": annotation}
    json.dumps(task_schemas(Arguments("t", takes), "#/x/{name}"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["a", "b", "flag", "at", "zz"]), JSON))
def test_any_json_is_taken_or_refused_by_name(values: dict[str, Any]) -> None:
    """Nothing a client sends makes another error than the one that web/errors.py knows."""
    arguments = Arguments("t", typed)
    try:
        args, kwargs = arguments.from_json(values)
    except InvalidArgumentsError as error:
        refused = error.argument
    else:
        arguments.check(args, kwargs)
        assert set(kwargs) == set(values)
        return
    assert refused in {*values, "a"}


@given(JSON)
def test_untyped_arguments_are_sent_as_they_came(value: Any) -> None:
    """There is nothing to convert them to."""
    _, kwargs = Arguments("t", untyped).from_json({"a": value})
    assert kwargs == {"a": value}


def test_schemas_are_those_of_the_signature() -> None:
    """With what they refer to beside them."""
    taken, given, components = task_schemas(Arguments("t", structured), "#/x/{name}")
    assert taken["required"] == ["point", "numbers"]
    assert taken["properties"]["point"] == {"$ref": "#/x/Point"}
    assert taken["properties"]["numbers"]["maxItems"] == 3
    assert taken["additionalProperties"] is False
    assert given == {"$ref": "#/x/Point"}
    assert set(components) == {"Point"}
    taken, given, _ = task_schemas(Arguments("t", typed), "")
    assert taken["properties"]["b"] == {"type": "string", "default": "b"}
    assert given == {"type": "array", "items": {"type": "integer"}}
    assert task_schemas(Arguments("t", untyped), "")[0]["additionalProperties"] is True
    json.dumps(taken)


@pytest.mark.parametrize("value", ["x", {"hex": "0"}, None])
def test_keyword_arguments_are_no_tag_of_kombus(value: Any) -> None:
    """A worker would make a UUID of all of them, and nobody could call anything with that."""

    def takes_any(first: Any = None, /, **others: Any) -> None: ...

    arguments = Arguments("some.task", takes_any)
    tag = {"__type__": "uuid", "__value__": value}
    for values in (tag, {**tag, "first": 1}):
        with pytest.raises(InvalidArgumentsError):
            arguments.from_json(values)
    with pytest.raises(InvalidArgumentsError):
        arguments.check((), tag)
    arguments.from_json({**tag, "more": 1})
