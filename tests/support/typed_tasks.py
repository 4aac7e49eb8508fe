"""Tasks that take and return what they are annotated as; each says what reached its body."""

import asyncio
import enum
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic

from service import TaskBlueprint

tasks = TaskBlueprint("typed")


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Item:
    """One line of an order."""

    name: str
    price: Decimal
    size: Size = Size.SMALL
    labels: set[str] = field(default_factory=set)


@dataclass
class Order:
    """With all that a message has to carry inside of it."""

    id: UUID
    at: datetime
    items: list[Item]
    raw: bytes = b""


class Circle(msgspec.Struct):
    radius: float


class Square(msgspec.Struct):
    side: float


class Place(NamedTuple):
    x: int
    y: int = 0


class Address(TypedDict):
    street: str
    since: date


class Person(pydantic.BaseModel):
    name: str
    born: date
    mail: str = pydantic.Field(default="", alias="eMail")


@tasks.task(public=True, show_arguments=True)
async def add_item(order: Order, item: Item) -> Order:
    """Put an item into an order."""
    _expect(order, Order)
    _expect(item, Item)
    return Order(order.id, order.at, [*order.items, item], order.raw)


@tasks.task(public=True)
def total(order: Order) -> Decimal:
    """Sum up the prices."""
    _expect(order, Order)
    return sum((item.price for item in order.items), Decimal(0))


@tasks.task(public=True, show_arguments=True)
async def simple(  # noqa: PLR0913, PLR0917  one of each
    at: datetime,
    day: date,
    ident: UUID,
    price: Decimal,
    raw: bytes,
    size: Size,
    mode: Literal["on", "off"] = "on",
    place: Place = Place(1, 2),  # noqa: B008  it cannot be changed
) -> list[Any]:
    """Name the classes of what came."""
    given = (at, day, ident, price, raw, size, mode, place)
    return [type(value).__name__ for value in given]


@tasks.task(public=True)
async def area(shapes: list[Circle | Square], scale: int | Decimal = 1) -> list[str]:
    """Name the classes of what came."""
    return [type(value).__name__ for value in [*shapes, scale]]


@tasks.task(public=True)
async def move(person: Person, to: Address | None = None) -> tuple[Person, Address | None]:
    """Give back what came."""
    _expect(person, Person)
    return person, to


@tasks.task(public=True)
async def greet(people: list[Person], loud: Annotated[int, pydantic.Field(ge=1)] = 1) -> Person:
    """Give back the first."""
    _expect(people[0], Person)
    return people[0]


@tasks.task(pydantic=True)
def checked_by_celery(person: Person, items: list[Item]) -> Person:
    """Celery's own option, with an argument that Celery leaves alone."""
    _expect(person, Person)
    _expect(items[0], Item)
    return person


@tasks.task(autoretry_for=(Exception,), retry_kwargs={"max_retries": 3, "countdown": 0})
async def strict(place: Place) -> str:
    """Retried if it fails, but not for arguments that never fit."""
    return type(place).__name__


@tasks.task
async def wrong_result(good: bool) -> Order | None:
    """Not what it says, unless `good`."""
    await asyncio.sleep(0)
    return None if good else "an order"  # type: ignore[return-value]  # what is tested


def _expect(value: object, cls: type) -> None:
    if type(value) is not cls:
        raise AssertionError(f"got {value!r}")
