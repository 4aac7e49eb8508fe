"""Arguments and results are what they are annotated as, by every way that leads to a worker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, chain, chord, group
from quart import Quart

from service import enqueue
from service.errors import InvalidArgumentsError, JobFailedError
from service.parts import parts_of
from tests.support import typed_tasks as typed
from tests.support.serving import serving_app
from tests.support.typed_tasks import Circle, Item, Order, Person, Place, Size, Square
from tests.support.workers import Worker

TIMEOUT = 30.0
ID = UUID("12345678123456781234567812345678")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PEN = Item("pen", Decimal("1.50"), Size.LARGE, {"blue"})
INK = Item("ink", Decimal("2.25"))
ORDER = Order(ID, NOW, [PEN], b"\xff\x00")
ADA = Person(name="Ada", born=date(1815, 12, 10), eMail="ada@example.org")
ADA_PLAIN = Person(name="Ada", born=date(1815, 12, 10))
ORDER_AS_JSON: dict[str, Any] = {
    "id": str(ID),
    "at": "2026-01-02T03:04:05Z",
    "items": [{"name": "pen", "price": "1.50", "size": "l", "labels": ["blue"]}],
    "raw": "/wA=",
}
INK_AS_JSON = {"name": "ink", "price": "2.25"}

pytestmark = pytest.mark.parametrize("shared_worker", ["asyncio", "prefork"], indirect=True)


@pytest.fixture
def worker(shared_worker: Worker) -> Worker:
    return shared_worker


@pytest.fixture
async def app(worker: Worker) -> AsyncIterator[Quart]:
    async with serving_app(worker, "tests.support.typed_tasks") as app:
        yield app


async def over_http(app: Quart, task: str, arguments: dict[str, Any]) -> Any:
    """The result of a job that a client of HTTP starts, as JSON."""
    client = app.test_client()
    accepted = await client.post(f"/tasks/{task}", json=arguments)
    body = await accepted.get_json()
    assert accepted.status_code == 202, body
    await parts_of(app).watcher.wait(body["id"], TIMEOUT)
    shown = await (await client.get(body["result_url"])).get_json()
    assert shown["successful"], shown
    return shown["result"]


@pytest.mark.usefixtures("app")
async def test_what_python_sends_arrives_and_comes_back() -> None:
    """Nested, in lists, in tuples; with the classes that they were."""
    job = await typed.add_item.enqueue(ORDER, item=INK)
    assert await job.result(timeout=TIMEOUT) == Order(ID, NOW, [PEN, INK], b"\xff\x00")
    assert await (await typed.total.enqueue(ORDER)).result(timeout=TIMEOUT) == Decimal("1.50")
    simple = await typed.simple.enqueue(
        NOW, NOW.date(), ID, Decimal(1), b"\xff", Size.SMALL, place=Place(3)
    )
    names = "datetime date UUID Decimal bytes Size str Place"
    assert await simple.result(timeout=TIMEOUT) == names.split()
    area = await typed.area.enqueue([Square(1.0), Circle(2.0)], Decimal(2))
    assert await area.result(timeout=TIMEOUT) == ["Square", "Circle", "Decimal"]
    moved = await typed.move.enqueue(ADA, {"street": "x", "since": date(2026, 1, 1)})
    assert await moved.result(timeout=TIMEOUT) == (
        ADA,
        {"street": "x", "since": date(2026, 1, 1)},
    )
    assert await (await typed.greet.enqueue([ADA])).result(timeout=TIMEOUT) == ADA
    by_celery = await typed.checked_by_celery.enqueue(
        Person(name="Ada", born=date(1815, 12, 10)), [INK]
    )
    assert (await by_celery.result(timeout=TIMEOUT)).name == "Ada"


async def test_what_a_client_sends_is_the_json_of_the_schema(app: Quart) -> None:
    """And so is what it is answered; msgspec leaves out a default that nobody gave."""
    sent = {"order": ORDER_AS_JSON, "item": INK_AS_JSON}
    more = {**INK_AS_JSON, "labels": []}
    expected = {**ORDER_AS_JSON, "items": [*ORDER_AS_JSON["items"], more]}
    assert await over_http(app, "typed.add_item", sent) == expected
    assert await over_http(app, "typed.total", {"order": ORDER_AS_JSON}) == "1.50"
    simple = {
        "at": "2026-01-02T03:04:05Z",
        "day": "2026-01-02",
        "ident": str(ID),
        "price": "1.5",
        "raw": "/wA=",
        "size": "l",
        "place": [1, 2],
    }
    names = "datetime date UUID Decimal bytes Size str Place"
    assert await over_http(app, "typed.simple", simple) == names.split()
    ada = {"name": "Ada", "born": "1815-12-10", "eMail": "ada@example.org"}
    assert await over_http(app, "typed.greet", {"people": [ada], "loud": 2}) == ada
    shapes = [{"side": 1}, {"radius": 2}]
    assert await over_http(app, "typed.area", {"shapes": shapes}) == ["Square", "Circle", "int"]


async def test_parts_of_a_canvas_take_what_the_task_takes(app: Quart) -> None:
    """The result of one part is the argument of the next; each can be given by any means."""
    summed: Any = await enqueue(chain(typed.add_item.s(ORDER, INK), typed.total.s()))
    assert await summed.result(timeout=TIMEOUT) == Decimal("3.75")
    added: Any = await enqueue(chain(typed.add_item.si(ORDER, INK), typed.add_item.s(INK)))
    assert (await added.result(timeout=TIMEOUT)).items == [PEN, INK, INK]
    people: Any = await enqueue(
        chord([typed.checked_by_celery.s(ADA_PLAIN, [INK])], typed.greet.s())
    )
    assert (await people.result(timeout=TIMEOUT)).name == "Ada"
    both: Any = await enqueue(group(typed.total.s(ORDER), typed.add_item.s(ORDER, item=INK)))
    totals, order = await both.result(timeout=TIMEOUT)
    assert (totals, type(order)) == (Decimal("1.50"), Order)
    sent = await asyncio.to_thread(typed.total.delay, ORDER)
    found = await parts_of(app).watcher.wait(sent.id, TIMEOUT)
    assert found.result == Decimal("1.50")


@pytest.mark.usefixtures("app")
async def test_what_a_stock_producer_sends_is_decoded(worker: Worker) -> None:
    """Which knows a task by its name alone, and sends JSON."""
    stock = Celery("stock", broker=worker.redis_url, backend=worker.redis_url)

    async def outcome(args: list[Any]) -> Any:
        def send_and_wait() -> Any:
            return stock.send_task("typed.add_item", args).get(TIMEOUT, propagate=False)

        return await asyncio.to_thread(send_and_wait)

    found = await outcome([ORDER_AS_JSON, INK_AS_JSON])
    assert found == {
        **ORDER_AS_JSON,
        "items": [*ORDER_AS_JSON["items"], {**INK_AS_JSON, "labels": []}],
    }
    failed = str(await outcome([ORDER_AS_JSON, {"name": "ink", "price": "cheap"}]))
    assert "argument 'item'" in failed
    assert "`$.price`" in failed
    stock.close()


async def test_arguments_that_never_fit_are_not_tried_again(app: Quart) -> None:
    """A message of an older release, say: the task's own retries are for its own errors."""
    with pytest.raises(InvalidArgumentsError):
        await typed.strict.enqueue(Place("here"))  # type: ignore[arg-type]  # what is refused
    sent = await asyncio.to_thread(typed.strict.delay, Place("here"))  # type: ignore[arg-type]
    found = await parts_of(app).watcher.wait(sent.id, TIMEOUT)
    assert found.error is not None
    assert found.error.type == "InvalidArgumentsError"


@pytest.mark.usefixtures("app")
async def test_a_result_that_is_not_what_was_promised_is_a_failure() -> None:
    """Of the task that returns it, and not of whoever waits."""
    good = await typed.wrong_result.enqueue(good=True)
    assert await good.result(timeout=TIMEOUT) is None
    with pytest.raises(JobFailedError, match="not what it is annotated to return"):
        await (await typed.wrong_result.enqueue(good=False)).result(timeout=TIMEOUT)


async def test_shown_arguments_have_dates_uuids_and_decimals(app: Quart) -> None:
    """As text."""
    job = await typed.simple.enqueue(NOW, NOW.date(), ID, Decimal("1.5"), b"\xff", Size.SMALL)
    found = await parts_of(app).watcher.wait(job.id, TIMEOUT)
    assert found.arguments == {
        "at": "2026-01-02T03:04:05Z",
        "day": "2026-01-02",
        "ident": str(ID),
        "price": "1.5",
        "raw": "/w==",
        "size": "s",
        "mode": "on",
        "place": [1, 2],
    }
