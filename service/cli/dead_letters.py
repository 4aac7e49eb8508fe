"""`service dead-letters`: lists, shows, replays and drops what the broker has given up on."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import click
from quart import Quart, current_app
from quart.cli import ScriptInfo, pass_script_info
from redis.exceptions import RedisError

from service.access.access import access_of
from service.broker.dead_letters.model import DeadLetter
from service.broker.dead_letters.store import DeadLetters
from service.errors import BrokerUnavailableError, UnknownDeadLetterError
from service.jobs.celery.republishing import publish_by
from service.parts import get_celery, parts_of
from service.redis.keys import broker_keys

_AsyncCommand = Callable[..., Awaitable[None]]


def _on_dead_letters(command: _AsyncCommand) -> Callable[..., None]:
    """Let a command be a coroutine function that takes the app's dead letters first."""

    @pass_script_info
    def run(info: ScriptInfo, /, **options: Any) -> None:
        asyncio.run(_run(info.load_app(), command, options))

    return run


async def _run(app: Quart, command: _AsyncCommand, options: dict[str, Any]) -> None:
    parts, celery = parts_of(app), get_celery(app)
    letters = DeadLetters(
        parts.broker_redis,
        parts.redis,
        result_keys=parts.keys,
        broker_keys=broker_keys(celery.conf),
        queues=list(celery.amqp.queues),
        publish=publish_by(celery),
    )
    try:
        async with app.app_context():
            await command(letters, **options)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has left. Python's flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (RedisError, OSError) as error:
        raise BrokerUnavailableError(str(error) or type(error).__name__) from error
    finally:
        await parts.broker_redis.aclose()
        await parts.redis.aclose()


@click.group("dead-letters", short_help="see, replay or drop the jobs that were given up on")
def dead_letters() -> None:
    """What the broker has given up on: jobs that ended their workers too often, and messages that
    cannot be read.
    """


@dead_letters.command("list", help="one line for each")
@_on_dead_letters
async def _list_letters(letters: DeadLetters) -> None:
    async for letter in letters.all():
        fields = (
            letter.id,
            letter.queue,
            letter.task or "(unreadable)",
            f"{letter.deliveries} deliveries",
            f"{letter.at:%Y-%m-%d %H:%M:%S}Z",
            letter.reason,
        )
        click.echo("  ".join(fields))


@dead_letters.command("show", help="all that is known of one")
@click.argument("letter_id", metavar="ID")
@_on_dead_letters
async def _show(letters: DeadLetters, letter_id: str) -> None:
    (letter,) = await _choose(letters, letter_id, every=False)
    click.echo(
        f"id:          {letter.id}\n"
        f"queue:       {letter.queue}\n"
        f"task:        {letter.task or '(unreadable)'}\n"
        f"reason:      {letter.reason}\n"
        f"deliveries:  {letter.deliveries}\n"
        f"at:          {letter.at:%Y-%m-%d %H:%M:%S}Z\n"
        f"message:     {letter.message.decode(errors='backslashreplace')}"
    )


def _one_or_all(command: Callable[..., None]) -> Callable[..., None]:
    which = click.option("--all", "every", is_flag=True, help="every dead letter")
    return click.argument("letter_id", metavar="[ID]", required=False)(which(command))


@dead_letters.command("replay", help="put back on its queue: one, or all")
@_one_or_all
@_on_dead_letters
async def _replay(letters: DeadLetters, letter_id: str | None, every: bool) -> None:
    chosen = await _choose(letters, letter_id, every=every)
    click.echo(f"{await _act('replay', letters.replay, chosen)} replayed.")


@dead_letters.command("drop", help="forget: one, or all")
@_one_or_all
@_on_dead_letters
async def _drop(letters: DeadLetters, letter_id: str | None, every: bool) -> None:
    chosen = await _choose(letters, letter_id, every=every)
    click.echo(f"{await _act('drop', letters.drop, chosen)} dropped.")


async def _act(
    name: str, act: Callable[[DeadLetter], Awaitable[bool]], chosen: Iterable[DeadLetter]
) -> int:
    """Do it to each that is still there, each with a line of the audit; how many these were."""
    audit, done = access_of(current_app).audit, 0
    for letter in chosen:
        if await act(letter):
            await audit.add_by_command(name, f"dead letter {letter.id}")
            done += 1
    return done


async def _choose(letters: DeadLetters, letter_id: str | None, *, every: bool) -> list[DeadLetter]:
    if every == (letter_id is not None):
        raise click.UsageError("Give one of the two: an ID, or --all.")
    if letter_id is None:
        # All are read first: a job that is replayed may be back among them before the end.
        return [letter async for letter in letters.all()]
    if (letter := await letters.get(letter_id)) is None:
        raise UnknownDeadLetterError(letter_id)
    return [letter]
