"""`service queues`: how much waits in each queue."""

import asyncio
import json
from itertools import islice
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
    async with bounded(parts.settings.redis_timeout):
        pipe = redis.pipeline(transaction=False)
        for key in (keys.paused_tasks, keys.paused_lists):
            pipe.hgetall(key)
        task_pauses, paused_lists = await pipe.execute()
        paused, beside = read_pauses(task_pauses), [*read_paused_lists(keys, paused_lists)]
        pipe, counts = redis.pipeline(transaction=False), []
        for name in names:
            lists, scheduled = keys.lists_of(name), keys.scheduled_of(name)
            here = [each for each in beside if each.beside in lists]
            resumed = [each.key for each in here if each.task not in paused]
            held_back = [each.key for each in here if each.task in paused]
            for key in (*lists, *resumed, *held_back):
                pipe.llen(key)
            for key in scheduled:
                pipe.zcard(key)
            counts.append((len(lists) + len(resumed), len(held_back), len(scheduled)))
        left = iter(await pipe.execute())
    found = []
    for name, each in zip(names, counts, strict=True):
        waiting, held, later = (sum(islice(left, count)) for count in each)
        found.append(QueueLength(name, waiting, later, held))
    return found
