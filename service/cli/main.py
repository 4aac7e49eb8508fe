"""The `service` command: one function for each sub-command."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from service import create_app, get_celery
from service.broker.checks.startup import inspect_redis, refuse
from service.cli.dead_letters import add_dead_letters
from service.cli.exit import told_without_traceback
from service.dev import Address, parse_address, run_dev
from service.parts import parts_of

_INTERRUPTED = 130  # the shell's exit code for Ctrl-C


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 1 and a message when that cannot be done."""
    arguments = _parser().parse_args(argv)
    try:
        with told_without_traceback():
            arguments.run(arguments)
    except KeyboardInterrupt:  # before there was anything to stop
        sys.exit(_INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="service", description="Background jobs for async Python web apps."
    )
    parser.set_defaults(run=lambda _: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_dev(
        commands.add_parser(
            "dev",
            help="run Valkey, a worker and the web side on this machine",
            description=(
                "Run a private Valkey (unless SERVICE_REDIS_URL is set), one worker and one web"
                " process until Ctrl-C. Changes of code are seen after a restart."
            ),
        )
    )
    add_dead_letters(
        commands.add_parser(
            "dead-letters",
            help="see, replay or drop the jobs that were given up on",
            description=(
                "What the broker has given up on: jobs that ended their workers too often, and"
                " messages that cannot be read."
            ),
        )
    )
    return parser


def _add_dev(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bind",
        type=_address,
        default=Address("127.0.0.1", 8000),
        metavar="HOST:PORT",
        help="where to serve (default: 127.0.0.1:8000); port 0 picks a free one",
    )
    parser.add_argument(
        "--concurrency",
        type=_count,
        metavar="N",
        help="how many jobs the worker runs at once (default: its pool's; 100 for asyncio)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="keep Valkey's data in this folder (default: a temporary one)",
    )
    parser.set_defaults(run=_dev)


def _dev(arguments: argparse.Namespace) -> None:
    # Worker and web would refuse it all too, but each in its own way, far up in the log.
    sys.path.insert(0, str(Path.cwd()))  # where they look for modules, and a script does not
    app = create_app()
    get_celery(app)
    if os.environ.get("SERVICE_REDIS_URL"):  # else there is no Redis yet
        refuse(inspect_redis(parts_of(app).settings))
    run_dev(address=arguments.bind, concurrency=arguments.concurrency, data=arguments.data)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)
