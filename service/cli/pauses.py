"""`service pause` and `service resume`, of a queue or of a task."""

import asyncio

import click
from quart import Quart
from quart.cli import ScriptInfo, pass_script_info

from service.access.access import access_of
from service.access.audit import system_user
from service.broker.pauses import Kind, pause, resume
from service.parts import get_celery, parts_of
from service.redis.bounded import bounded


@click.command("pause", short_help="have no worker begin jobs of a queue, or of a task")
@click.argument("queue", required=False)
@click.option("--task", metavar="NAME", help="pause this task, in all queues, and no queue")
@click.option("--why", default="", help="the reason, which the dashboard shows")
@pass_script_info
def pause_jobs(info: ScriptInfo, queue: str | None, task: str | None, why: str) -> None:
    """Pause a queue or a task: its jobs wait until it is resumed. What workers hold already still
    runs.
    """
    kind, name = _named(queue, task)
    asyncio.run(_change(info.load_app(), kind, name, why, is_pause=True))


@click.command("resume", short_help="have workers begin jobs of a queue, or of a task, again")
@click.argument("queue", required=False)
@click.option("--task", metavar="NAME", help="resume this task, and no queue")
@pass_script_info
def resume_jobs(info: ScriptInfo, queue: str | None, task: str | None) -> None:
    """Resume a queue or a task that was paused."""
    kind, name = _named(queue, task)
    asyncio.run(_change(info.load_app(), kind, name, "", is_pause=False))


def _named(queue: str | None, task: str | None) -> tuple[Kind, str]:
    if queue and not task:
        return Kind.QUEUE, queue
    if task and not queue:
        return Kind.TASK, task
    raise click.UsageError("Name one queue, or one task with --task.")


async def _change(app: Quart, kind: Kind, name: str, why: str, *, is_pause: bool) -> None:
    parts, celery = parts_of(app), get_celery(app)
    try:
        async with bounded(parts.settings.redis_timeout, maybe_accepted=True):
            if is_pause:
                by = system_user()
                await pause(parts.broker_redis, celery.conf, kind, name, by=by, why=why)
                click.echo(f"{name} is paused.")
            elif await resume(parts.broker_redis, celery.conf, kind, name):
                click.echo(f"{name} is resumed.")
            else:
                click.echo(f"{name} was not paused.")
        if kind is Kind.TASK and is_pause and name not in celery.tasks:
            click.echo("This app has no task of this name.", err=True)
        if kind is Kind.QUEUE and is_pause and name not in celery.amqp.queues:
            click.echo("No queue of the configuration has this name.", err=True)
        act, reason = ("pause" if is_pause else "resume"), f": {why}" if why else ""
        await access_of(app).audit.add_by_command(act, f"{kind} {name}{reason}")
    finally:
        await parts.broker_redis.aclose()
        await parts.redis.aclose()
