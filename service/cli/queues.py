"""`service queues`: how much waits in each queue."""

import asyncio
import json
from typing import Any

import click
import msgspec
from quart import Quart
from quart.cli import ScriptInfo, pass_script_info

from service.broker.pauses import read_paused_lists, read_pauses
from service.parts import Parts, get_celery, parts_of
from service.redis.bounded import bounded
from service.redis.keys import broker_keys


class QueueLength(msgspec.Struct, frozen=True):
    """How many jobs of a queue wait, are not due yet, or are of paused tasks; None if unknown."""

    name: str
    waiting: int | None
    scheduled: int | None
    paused: int | None = None
    consumers: int | None = None


@click.command("queues", short_help="tell how much waits in each queue")
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="as JSON, for programs")
@pass_script_info
def queue_lengths(info: ScriptInfo, names: tuple[str, ...], as_json: bool) -> None:
    """How many jobs wait in each queue, or in those that are named.

    RabbitMQ tells neither how many are scheduled nor paused, but how many consumers a queue has.
    """
    found = asyncio.run(_read_lengths(info.load_app(), names))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    columns = ("waiting", "scheduled", "paused", "consumers")
    rows: list[tuple[str, ...]] = [("queue", *columns)]
    for queue in found:
        counts = (getattr(queue, column) for column in columns)
        rows.append((queue.name, *("unknown" if n is None else f"{n:,}" for n in counts)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join([first, *others]).rstrip())


async def _read_lengths(app: Quart, names: tuple[str, ...]) -> list[QueueLength]:
    parts, celery = parts_of(app), get_celery(app)
    wanted = sorted(names or celery.amqp.queues)
    try:
        counts = await (await parts.enqueuer.publisher()).queue_counts(wanted)
        if counts is None:
            return await _read_redis(parts, wanted)
        unknown = None, None
        found = [(name, *counts.get(name, unknown)) for name in wanted]
        return [QueueLength(name, ready, None, None, consumers) for name, ready, consumers in found]
    finally:
        await parts.enqueuer.aclose()
        await parts.broker_redis.aclose()
        await parts.redis.aclose()


async def _read_redis(parts: Parts, names: list[str]) -> list[QueueLength]:
    keys = broker_keys(parts.celery.get().conf)
    redis: Any = parts.broker_redis
    found = []
    async with bounded(parts.settings.redis_timeout):
        paused = read_pauses(await redis.hgetall(keys.paused_tasks))
        beside = [*read_paused_lists(keys, await redis.hgetall(keys.paused_lists))]
        for name in names:
            lists = keys.lists_of(name)
            here = [each for each in beside if each.beside in lists]
            resumed = [each.key for each in here if each.task not in paused]
            waiting = [await redis.llen(key) for key in (*lists, *resumed)]
            scheduled = [await redis.zcard(key) for key in keys.scheduled_of(name)]
            held_back = [await redis.llen(each.key) for each in here if each.task in paused]
            found.append(QueueLength(name, sum(waiting), sum(scheduled), sum(held_back)))
    return found
