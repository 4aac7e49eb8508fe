"""`service pause` and `service resume`: no worker takes from a queue that is paused."""

import asyncio

import click
from quart import Quart
from quart.cli import ScriptInfo, pass_script_info

from service.access.access import access_of
from service.access.audit import system_user
from service.broker.pauses import pause, resume
from service.parts import get_celery, parts_of
from service.redis.bounded import bounded
from service.redis.keys import broker_keys


@click.command("pause", short_help="have no worker take from a queue")
@click.argument("queue")
@click.option("--why", default="", help="the reason, which the dashboard shows")
@pass_script_info
def pause_queue(info: ScriptInfo, queue: str, why: str) -> None:
    """Pause a queue: its jobs wait until it is resumed. What workers hold already still runs."""
    asyncio.run(_change(info.load_app(), queue, why, is_pause=True))


@click.command("resume", short_help="have workers take from a queue again")
@click.argument("queue")
@pass_script_info
def resume_queue(info: ScriptInfo, queue: str) -> None:
    """Resume a queue that was paused."""
    asyncio.run(_change(info.load_app(), queue, "", is_pause=False))


async def _change(app: Quart, queue: str, why: str, *, is_pause: bool) -> None:
    parts, keys = parts_of(app), broker_keys(get_celery(app).conf)
    try:
        async with bounded(parts.settings.redis_timeout, maybe_accepted=True):
            if is_pause:
                await pause(parts.broker_redis, keys, queue, by=system_user(), why=why)
                click.echo(f"{queue} is paused.")
            elif await resume(parts.broker_redis, keys, queue):
                click.echo(f"{queue} is resumed.")
            else:
                click.echo(f"{queue} was not paused.")
        act, reason = ("pause" if is_pause else "resume"), f": {why}" if why else ""
        await access_of(app).audit.add_by_command(act, f"queue {queue}{reason}")
    finally:
        await parts.broker_redis.aclose()
        await parts.redis.aclose()
