"""`service dead-letters`: what the broker has given up on, to see, to run again, or to forget."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from redis.exceptions import RedisError

from service.app import create_app
from service.broker.dead_letters.model import DeadLetter, box_for
from service.broker.dead_letters.store import DeadLetters
from service.errors import BrokerUnavailableError, UnknownDeadLetterError
from service.parts import get_celery, parts_of
from service.redis.clients import broker_redis_url, connect_blocking
from service.redis.keys import result_keys

_PAGE: Final = 200


def add_dead_letters(parser: argparse.ArgumentParser) -> None:
    """Give the command its own commands."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("list", help="one line for each").set_defaults(run=_list)
    show = commands.add_parser("show", help="all that is known of one")
    show.add_argument("id", metavar="ID")
    show.set_defaults(run=_show)
    for name, does, action in (
        ("replay", "put back on its queue", _Box.replay),
        ("drop", "forget", _Box.drop),
    ):
        command = commands.add_parser(name, help=f"{does}: one, or all")
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument("id", metavar="ID", nargs="?")
        which.add_argument("--all", action="store_true", help="every dead letter")
        command.set_defaults(run=_for_each(action, name))


class _Box:
    """The dead letters of all queues of the app."""

    def __init__(self, letters: DeadLetters, queues: Sequence[str]) -> None:
        self._letters = letters
        self._queues = queues

    def __iter__(self) -> Iterator[DeadLetter]:
        """All of them, those of each queue newest first."""
        for queue in self._queues:
            offset = 0
            while letters := self._letters.page(queue, offset=offset, limit=_PAGE).letters:
                yield from letters
                offset += _PAGE

    def get(self, letter_id: str) -> DeadLetter:
        """One. Raises UnknownDeadLetterError."""
        letter = self._letters.get(letter_id)
        if letter is None:
            raise UnknownDeadLetterError(letter_id)
        return letter

    def replay(self, letter: DeadLetter) -> bool:
        """Queue it again; its job says QUEUED in place of FAILURE."""
        return self._letters.replay(letter)

    def drop(self, letter: DeadLetter) -> bool:
        """Forget it; its job's result goes on to say FAILURE."""
        return self._letters.drop(letter)


def _with_box(action: Callable[[_Box], None]) -> None:
    app = create_app()
    settings = parts_of(app).settings
    celery = get_celery(app)
    box = box_for(celery.conf.broker_transport_options, celery.amqp.queues)
    try:
        with ExitStack() as stack:
            client = stack.enter_context(connect_blocking(settings, broker_redis_url(settings)))
            results = None
            if broker_redis_url(settings) != settings.redis_url:
                results = stack.enter_context(connect_blocking(settings))
            letters = DeadLetters(client, result_keys(settings), box, results=results)
            action(_Box(letters, box.queues))
    except BrokenPipeError:
        # Who read has enough, as `head` does. What Python flushes at its end must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (RedisError, OSError) as error:
        raise BrokerUnavailableError(str(error) or type(error).__name__) from error


def _list(_: argparse.Namespace) -> None:
    def action(box: _Box) -> None:
        for letter in box:
            fields = (
                letter.id,
                letter.queue,
                letter.task or "(unreadable)",
                f"{letter.deliveries} deliveries",
                f"{letter.at:%Y-%m-%d %H:%M:%S}Z",
                letter.reason,
            )
            _say("  ".join(fields))

    _with_box(action)


def _show(arguments: argparse.Namespace) -> None:
    def action(box: _Box) -> None:
        letter = box.get(arguments.id)
        _say(f"id:          {letter.id}")
        _say(f"queue:       {letter.queue}")
        _say(f"task:        {letter.task or '(unreadable)'}")
        _say(f"reason:      {letter.reason}")
        _say(f"deliveries:  {letter.deliveries}")
        _say(f"at:          {letter.at:%Y-%m-%d %H:%M:%S}Z")
        _say(f"message:     {letter.message.decode(errors='backslashreplace')}")

    _with_box(action)


def _for_each(
    method: Callable[[_Box, DeadLetter], bool], name: str
) -> Callable[[argparse.Namespace], None]:
    past = {"replay": "replayed", "drop": "dropped"}[name]

    def run(arguments: argparse.Namespace) -> None:
        def action(box: _Box) -> None:
            # All are read first: a job that is replayed may be back among them before the end.
            letters = list(box) if arguments.all else [box.get(arguments.id)]
            count = sum(method(box, letter) for letter in letters)
            _say(f"{count} {past}.")

        _with_box(action)

    return run


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
