"""Forms made from signatures, and read without scripts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from service.errors import InvalidArgumentsError
from service.jobs.arguments import Arguments
from service.jobs.schema import task_schemas
from service.web.tasks.forms import Field, fields_of, values_of


class Point(Struct):
    x: int
    y: int


class Kind(Enum):
    SOFT = "soft"


@dataclass
class Route:
    begin: Point
    kind: Kind
    price: Decimal
    stops: list[Point]
    name: str = "short"


async def function(  # noqa: PLR0913, PLR0917  one of each
    count: int,
    share: Annotated[float, Meta(ge=0, le=1)],
    name: Annotated[str, Meta(min_length=2, description="Of a person.")],
    colour: Literal["red", "green"],
    route: Route,
    points: list[Point],
    anything: Any,
    level: Annotated[int, Meta(gt=0)] | None = None,
    loud: bool = True,
    words: list[str] = [],  # noqa: B006  as users write it
    grid: list[list[int]] | None = None,
    either: int | str = 3,
    at: datetime | None = None,
    when: Annotated[datetime, Meta(tz=True)] = datetime(2026, 1, 2, tzinfo=UTC),
) -> None: ...


def fields() -> dict[str, Field]:
    taken, _, components = task_schemas(Arguments("a.task", function), "#/$defs/{name}")
    return {each.name: each for each in fields_of({**taken, "$defs": components})}


@pytest.mark.parametrize(
    ("name", "kind", "optional"),
    [
        ("count", "integer", False),
        ("share", "number", False),
        ("name", "text", False),
        ("colour", "choice", False),
        ("route.begin.x", "integer", False),
        ("route.begin.y", "integer", False),
        ("route.kind", "choice", False),
        ("route.price", "text", False),
        ("route.stops", "json", False),
        ("route.name", "text", True),
        ("points", "json", False),
        ("anything", "json", False),
        ("level", "integer", True),
        ("loud", "boolean", True),
        ("words", "list", True),
        ("grid", "json", True),
        ("either", "json", True),
        ("at", "text", True),
        ("when", "text", True),
    ],
)
def test_each_argument_has_its_kind_of_field(name: str, kind: str, optional: bool) -> None:
    """What has none of its own is JSON."""
    field = fields()[name]
    assert (field.kind, field.optional) == (kind, optional)


def test_limits_defaults_and_descriptions_are_taken_over() -> None:
    """So that the browser helps to fill the form in."""
    found = fields()
    assert found["share"].limits == {"step": "any", "min": 0, "max": 1}
    assert found["level"].limits == {"step": 1, "min": 1}
    assert found["name"].limits == {"minlength": 2}
    assert found["name"].hint == "Of a person."
    assert (found["share"].hint, found["level"].hint) == ("from 0 to 1", "at least 1")
    assert found["loud"].checked
    assert found["words"].items == "text"
    assert found["either"].default == "3"
    assert {option.value for option in found["colour"].options} == {'"red"', '"green"'}


def test_what_a_form_posts_are_the_arguments() -> None:
    """As a client would send them in JSON; what is empty and may be is left out."""
    posted = {
        "count": "3",
        "share": "0.5",
        "name": "Ada",
        "colour": '"red"',
        "route.begin.x": "1",
        "route.begin.y": "2",
        "route.kind": '"soft"',
        "route.price": "1.50",
        "route.stops": "[]",
        "points": '[{"x": 1, "y": 2}]',
        "anything": "[null]",
        "level": "",
        "words": "one\r\n\r\ntwo words\r\n",
        "not-an-argument": "x",
    }
    assert values_of(fields().values(), posted, "a.task") == {
        "count": 3,
        "share": 0.5,
        "name": "Ada",
        "colour": "red",
        "route": {
            "begin": {"x": 1, "y": 2},
            "kind": "soft",
            "price": "1.50",
            "stops": [],
        },
        "points": [{"x": 1, "y": 2}],
        "anything": [None],
        "loud": False,
        "words": ["one", "two words"],
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [("count", "x"), ("count", "1.5"), ("points", "{"), ("points", "[" * 20_000)],
)
def test_what_cannot_be_read_is_told_by_name(name: str, text: str) -> None:
    """As the task's own check does."""
    with pytest.raises(InvalidArgumentsError) as raised:
        values_of(fields().values(), {name: text}, "a.task")
    assert raised.value.argument == name


def test_the_place_in_an_object_is_told() -> None:
    """As the task's own check does, by a path."""
    with pytest.raises(InvalidArgumentsError) as raised:
        values_of([fields()["route.begin.x"]], {"route.begin.x": "one"}, "a.task")
    assert (raised.value.argument, raised.value.path) == ("route", ("begin", "x"))


@pytest.mark.parametrize(
    ("name", "text"), [("share", "nan"), ("share", "inf"), ("points", "[NaN]")]
)
def test_numbers_that_json_has_not_are_refused(name: str, text: str) -> None:
    """They would lie in a record that no browser can read."""
    with pytest.raises(InvalidArgumentsError):
        values_of([fields()[name]], {name: text}, "a.task")


def test_a_moment_is_asked_for_with_its_time_zone() -> None:
    """A browser's own field for it has none, so nothing that it sends could be taken."""
    field = fields()["when"]
    assert (field.input, field.hint) == ("text", "such as 2026-12-24T18:00:00Z")
