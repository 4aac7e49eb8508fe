"""JSON Schemas as people read them, and the examples of arguments that are made from them."""

import json
from typing import Annotated, Any

import pytest
from msgspec import Meta

from service import TaskBlueprint
from service.jobs.handle import TaskHandle
from service.jobs.schema import task_schemas
from service.tasks import demo
from service.web.tasks.schemas import example_of, members_of
from tests.support import form_tasks, typed_tasks

tasks = TaskBlueprint("schemas")


@tasks.task
def bounded(  # noqa: PLR0913  one of each
    low: Annotated[int, Meta(ge=7)],
    high: Annotated[float, Meta(lt=0)],
    many: Annotated[int, Meta(gt=10, multiple_of=4)],
    word: Annotated[str, Meta(min_length=12, description="Said `aloud`.")],
    letter: Annotated[str, Meta(max_length=1)],
    *,
    anything: Any,
    maybe: int | None,
) -> None: ...


@tasks.task
def optional(steps: int = 5, label: str | None = None) -> None: ...


HANDLES = [
    handle
    for blueprint in (tasks, demo.tasks, form_tasks.tasks, typed_tasks.tasks)
    for handle in blueprint.handles
]


def schema_of(handle: TaskHandle[..., Any, Any]) -> dict[str, Any]:
    """The schema of the arguments, with what it refers to."""
    taken, _, components = task_schemas(handle.arguments, "#/$defs/{name}")
    return {**taken, "$defs": components}


@pytest.mark.parametrize("handle", HANDLES, ids=lambda handle: str(handle.name))
def test_the_example_of_a_task_fits(handle: TaskHandle[..., Any, Any]) -> None:
    """It is sent as JSON, with all that is required."""
    values = json.loads(json.dumps(example_of(schema_of(handle))))
    handle.arguments.from_json(values)  # raises if it does not


def test_without_anything_required_the_example_has_the_defaults() -> None:
    """But none that is null."""
    assert example_of(schema_of(optional)) == {"steps": 5}


def test_members_are_told_with_their_own() -> None:
    """By a path, in the order of the signature."""
    found = {each.path: each for each in members_of(schema_of(typed_tasks.add_item))}
    assert found["order.items"].type == "list of Item"
    assert found["order.items[].price"].type == "string (decimal)"
    assert found["order.items[].price"].required
    assert found["order.items[].size"].default == '"s"'
    assert [*found][:2] == ["order", "order.id"]
    one_of = {each.path: each.type for each in members_of(schema_of(form_tasks.everything))}
    assert one_of["colour"] in {'"green" or "red"', '"red" or "green"'}
    assert one_of["numbers"] == "list of integer or null"
    assert one_of["more"] == "object of integer or null"
    limits = {each.path: each.about for each in members_of(schema_of(bounded))}
    assert limits["many"] == ("more than 10", "a multiple of 4")
    assert limits["word"] == ("Said `aloud`.", "12 letters or more")
