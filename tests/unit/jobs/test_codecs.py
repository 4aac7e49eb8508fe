"""Each annotation has its JSON: what is sent is JSON, and what arrives is what was sent."""

import enum
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from subprocess import run
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from kombu.utils.json import dumps, loads, register_type

from service.jobs.codecs import ANY, MisfitError, UncarriableError, codec_for

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = UUID("12345678123456781234567812345678")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Circle:
    radius: float
    at: datetime | None = None
    raw: bytes = b""


@dataclass
class Square:
    side: Decimal
    inner: "list[Circle]" = field(default_factory=list)


@dataclass
class Cube:
    side: Decimal


class Node(msgspec.Struct):
    value: int
    children: "list[Node]" = []


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


class Place(NamedTuple):
    x: int
    day: date


class Address(TypedDict):
    street: str
    since: date


class Person(pydantic.BaseModel):
    born: datetime
    mail: str = pydantic.Field(default="", alias="eMail")


class Strict(pydantic.BaseModel, strict=True):
    at: datetime
    id: UUID


class Company(pydantic.BaseModel):
    name: str


class Secret(pydantic.BaseModel):
    key: pydantic.SecretStr


class Blob(pydantic.BaseModel):
    raw: bytes


class Base64Blob(Blob):
    model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


@pydantic.dataclasses.dataclass
class Age:
    years: Annotated[int, pydantic.Field(ge=0)]


@dataclass
class Team:
    """A plain class with a model in it."""

    lead: Person
    others: list[Person]


class Money:
    """Something that only Kombu is told of, as Celery's users do."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    def __hash__(self) -> int:
        return hash(self.cents)


register_type(Money, "test-money", lambda money: money.cents, Money)
UserId = NewType("UserId", int)
ADA = Person(born=NOW, eMail="ada@example.org")
CASES: list[tuple[Any, Any]] = [
    (int, 1),
    (UserId, 1),
    (str | None, None),
    (int | str, "x"),
    (list[int], [1]),
    (Sequence[int], [1]),
    (Iterable[int], [1]),
    (dict[str, Any], {"a": [1, {}]}),
    (object, {"a": 1}),
    (Literal["a", 1, True], True),
    (Annotated[int, msgspec.Meta(ge=0)], 1),
    (Annotated[int, msgspec.Meta(extra_json_schema={"x": 1})] | None, 1),
    (Annotated[Circle, msgspec.Meta(extra_json_schema={"x": 1})] | Square, Circle(1.0)),
    (datetime, NOW),
    (datetime, NOW.replace(tzinfo=None)),
    (list[date | None], [NOW.date(), None]),
    (dict[str, time], {"a": time(1, 2)}),
    (timedelta, timedelta(days=1, seconds=2)),
    (UUID, ID),
    (dict[UUID, int], {ID: 1}),
    (dict[int, str], {1: "a"}),
    (dict[date, str], {NOW.date(): "a"}),
    (Decimal, Decimal("1.50")),
    (bytes, b"\xff\x00"),
    (bytes, b"text"),
    (list[bytes], [b"", b"\xff"]),
    (set[int], {1, 2}),
    (frozenset[Colour], frozenset({Colour.RED})),
    (tuple[int, date], (1, NOW.date())),
    (tuple[Decimal, ...], (Decimal(1), Decimal(2))),
    (Path, Path("/srv/x")),
    (Colour, Colour.RED),
    (Level, Level.LOW),
    (dict[Colour, int], {Colour.RED: 1}),
    (Place, Place(1, NOW.date())),
    (Address, {"street": "x", "since": NOW.date()}),
    (Circle, Circle(1.0, NOW, b"\xff")),
    (list[Square], [Square(Decimal("1.0"), [Circle(2.0)])]),
    (dict[str, Circle | None], {"a": Circle(1.0), "b": None}),
    (Node, Node(1, [Node(2, [Node(3)])])),
    (list[Cat | Dog], [Dog("x"), Cat("y")]),
    (Circle | Square, Square(Decimal(1))),
    (list[Circle | Square | int | None], [1, None, Circle(1.0), Square(Decimal(1))]),
    (datetime | str, "2026-01-02T03:04:05Z"),
    (datetime | str, NOW),
    (date | datetime | None, NOW),
    (dict[str, datetime | str | int], {"a": NOW, "b": "b", "c": 1}),
    (Person, ADA),
    (Person | Company | None, Company(name="x")),
    (list[Person], [ADA]),
    (tuple[Person, Colour, Decimal], (ADA, Colour.RED, Decimal("1.5"))),
    (Strict, Strict(at=NOW, id=ID)),
    (Age, Age(3)),
    (Annotated[int, pydantic.Field(gt=0)], 1),
    (Base64Blob, Base64Blob(raw=b"\xff")),
    (Team, Team(ADA, [ADA])),
    (Team | Square, Team(ADA, [])),
    (Money, Money(3)),
    (list[Money], [Money(3)]),
]


@pytest.mark.parametrize(("annotation", "value"), CASES)
def test_what_was_sent_is_what_arrives(annotation: Any, value: Any) -> None:
    """Through Kombu's JSON, as a message and a record have it, and of the same class."""
    codec = codec_for(annotation)
    arrived = codec.decode(loads(dumps(codec.check(value))))
    assert arrived == value
    assert type(arrived) is type(value)
    if codec.arrives_as_is:
        assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    ("annotation", "found", "value"),
    [
        (datetime, "2026-01-02T03:04:05Z", NOW),
        (UUID, str(ID), ID),
        (Decimal, "1.5", Decimal("1.5")),
        (Decimal, 2, Decimal(2)),
        (bytes, "/wA=", b"\xff\x00"),
        (Place, [1, "2026-01-02"], Place(1, NOW.date())),
        (Circle, {"radius": 1, "at": "2026-01-02T03:04:05Z"}, Circle(1.0, NOW)),
        (Circle, {"radius": 1, "at": NOW, "more": 1}, Circle(1.0, NOW)),
        (UUID | datetime, str(ID), ID),
        (UUID | datetime, "2026-01-02T03:04:05Z", NOW),
        (Person, {"born": "2026-01-02T03:04:05Z", "eMail": "ada@example.org"}, ADA),
        (Team, {"lead": {"born": NOW}, "others": []}, Team(Person(born=NOW), [])),
    ],
)
def test_json_of_others_is_taken(annotation: Any, found: Any, value: Any) -> None:
    """Of clients of HTTP, and of producers that are not written in Python."""
    assert codec_for(annotation).decode(found) == value


@pytest.mark.parametrize(
    ("annotation", "found", "path"),
    [
        (int, "x", ()),
        (list[int], [1, "x"], (1,)),
        (Circle, {"radius": "x"}, ("radius",)),
        (
            list[Square],
            [{"side": 1, "inner": [{"radius": 1}, {"radius": "x"}]}],
            (0, "inner", 1, "radius"),
        ),
        (dict[str, Circle], {"a": {"radius": "x"}}, ()),
        (list[Circle | Square], [{"radius": "x"}], (0, "radius")),
        (Circle | Square, {"radius": 1, "side": 1}, ()),
        (Circle | Square, "x", ()),
        (datetime | UUID, "x", ()),
        (Person, {"born": "x"}, ("born",)),
        (list[Person], [{"born": NOW}, {"born": "x"}], (1, "born")),
        (Team, {"lead": {"born": NOW}, "others": [{"born": "x"}]}, ("others", 0, "born")),
        (Money, 3, ()),
    ],
)
def test_the_place_of_a_mistake_is_told(annotation: Any, found: Any, path: tuple[Any, ...]) -> None:
    """As far as it is known: msgspec does not name the keys of a dict."""
    with pytest.raises(MisfitError) as caught:
        codec_for(annotation).decode(found)
    assert caught.value.path == path
    assert caught.value.reason


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Circle, Circle("x")),  # type: ignore[arg-type]  # what is refused
        (Circle, Square(Decimal(1))),
        (list[Circle], [Circle(1.0), 3]),
        (Colour, "blue"),
        (Secret, Secret(key="x")),  # type: ignore[arg-type]  # pydantic's plugin knows better
        (Person, Company(name="x")),
        (Blob, Blob(raw=b"\xff")),  # pydantic's own JSON of bytes is UTF-8
        (Age, 3),
        (Money, 3),
    ],
)
def test_a_value_that_does_not_fit_is_not_sent(annotation: Any, value: Any) -> None:
    """Nor one that would arrive as another: a secret, which its JSON hides."""
    with pytest.raises(MisfitError):
        codec_for(annotation).check(value)


@pytest.mark.parametrize(
    "annotation",
    [
        complex,
        Callable[[int], str],
        list[type],
        dict[str, complex],
        Circle | dict[str, int],
        Square | Cube,
        Colour | str,
        set[datetime | str],
        list[Node | Person],
    ],
)
def test_what_no_message_can_carry_is_refused(annotation: Any) -> None:
    """With a sentence."""
    with pytest.raises(UncarriableError) as caught:
        codec_for(annotation)
    assert str(caught.value)


@pytest.mark.parametrize("annotation", [ValueError, Exception | None, Any])
def test_what_only_a_worker_hands_over_is_left_alone(annotation: Any) -> None:
    """An errback is called with the error, in the worker itself."""
    assert codec_for(annotation) is ANY


@pytest.mark.slow
def test_pydantic_is_imported_only_for_who_uses_it() -> None:
    """It costs a tenth of a second, and need not be installed."""
    program = (
        "import sys; from dataclasses import dataclass; from service.jobs.codecs import codec_for\n"
        "@dataclass\nclass A:\n    x: int\n"
        "codec_for(list[A | None]); assert 'pydantic' not in sys.modules"
    )
    assert run([sys.executable, "-c", program], check=False).returncode == 0
