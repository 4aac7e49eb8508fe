"""`service tasks`: which tasks are registered, and what each takes."""

import inspect
import json
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import NoneType
from typing import Any

import click
import msgspec
from quart.cli import ScriptInfo, pass_script_info

from service.jobs.celery.app import QuartCelery
from service.parts import get_celery


class RegisteredTask(msgspec.Struct, frozen=True):
    """A task as the command shows it; limits are in seconds, the rate as Celery writes it."""

    name: str
    description: str
    signature: str
    queue: str
    public: bool
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: str | None

    @property
    def limits(self) -> str:
        """The limits in words."""
        limits = [
            (self.time_limit, "{:g} s"),
            (self.soft_time_limit, "{:g} s soft"),
            (self.rate_limit, "{}"),
        ]
        return ", ".join(form.format(limit) for limit, form in limits if limit) or "-"


@click.command("tasks", short_help="list the tasks that are registered")
@click.option("--json", "as_json", is_flag=True, help="as JSON, for programs")
@pass_script_info
def tasks(info: ScriptInfo, as_json: bool) -> None:
    """The registered tasks: their queues, their limits, and what they take and return."""
    found = sorted(registered(get_celery(info.load_app())), key=lambda task: task.name)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    rows = [("task", "queue", "limits", "signature")]
    rows += [(task.name, task.queue, task.limits, task.signature) for task in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]))


def registered(celery: QuartCelery) -> Iterator[RegisteredTask]:
    """The tasks of an app, but for those that Celery brings itself."""
    for name, task in celery.tasks.items():
        if name.startswith("celery."):
            continue
        handle = celery.handles.get(name)
        bound = handle is not None and handle.celery_options["bind"]
        # Celery keeps there what its decorators were given; `run` takes the task before it.
        function = getattr(task, "__wrapped__", task.run) if handle is None else handle.function
        own_queue = getattr(task, "queue", None)
        route = celery.amqp.router.route({"queue": own_queue} if own_queue else {}, name)
        yield RegisteredTask(
            name=name,
            description=inspect.getdoc(function) or "",
            signature=_signature(function, skip=1 if bound else 0),
            queue=getattr(route["queue"], "name", route["queue"]),
            public=handle is not None and handle.public,
            time_limit=task.time_limit or celery.conf.task_time_limit,
            soft_time_limit=task.soft_time_limit or celery.conf.task_soft_time_limit,
            rate_limit=task.rate_limit,
        )


def _signature(function: Callable[..., Any], *, skip: int) -> str:
    """What a function takes and returns, as Python writes it, without the metadata of types."""
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}
    with suppress(NameError, TypeError):  # names that only type checkers import
        found = typing.get_type_hints(function)
        hints = {name: None if hint is NoneType else hint for name, hint in found.items()}
    parameters = [
        parameter.replace(annotation=hints.get(parameter.name, parameter.annotation))
        for parameter in [*signature.parameters.values()][skip:]
    ]
    returns = hints.get("return", signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returns))
