"""The OpenAPI document has each class of a task's annotations under a name of its own."""

from dataclasses import dataclass, make_dataclass
from typing import Any

from service import TaskBlueprint, create_app
from service.web.http.openapi import build_document

tasks = TaskBlueprint("documented")


@dataclass
class Problem:
    """There is one of our own, too."""

    x: int


@dataclass
class Order:
    """Another task has another."""

    y: int


OtherOrder: Any = make_dataclass("Order", [("z", int)])


@tasks.task(public=True)
def first(order: Order, problem: Problem) -> None: ...


@tasks.task(public=True)
def second(order: Order) -> None: ...


@tasks.task(public=True)
def third(order: OtherOrder) -> None: ...


async def test_classes_of_one_name_do_not_take_each_others_place() -> None:
    """Clients' code is generated from these."""
    app = create_app()
    tasks.register(app)
    async with app.test_request_context("/"):
        document = build_document(app)
    schemas = document["components"]["schemas"]

    def argument(task: str, name: str) -> Any:
        body = document["paths"][f"/tasks/documented.{task}"]["post"]["requestBody"]
        schema = body["content"]["application/json"]["schema"]["properties"][name]
        return schemas[schema["$ref"].removeprefix("#/components/schemas/")]["properties"]

    assert set(argument("first", "problem")) == {"x"}
    assert set(argument("first", "order")) == set(argument("second", "order")) == {"y"}
    assert set(argument("third", "order")) == {"z"}
    assert "detail" in schemas["Problem"]["properties"]
