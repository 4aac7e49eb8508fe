"""`service dev`: everything on this machine, in one command."""

import os
import sys
from pathlib import Path

import click
from quart.cli import ScriptInfo, pass_script_info

from service.broker.checks.startup import inspect_redis, refuse
from service.dev import Address, parse_address, run_dev
from service.parts import get_celery, parts_of


def _address(_: click.Context, __: click.Parameter, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _count(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is not None and (not text.isdecimal() or int(text) < 1):
        raise click.BadParameter(f"{text!r} is not a whole number from 1 up")
    return None if text is None else int(text)


@click.command(short_help="run Valkey, a worker and the web side on this machine")
@click.option(
    "--bind",
    callback=_address,
    default="127.0.0.1:8000",
    metavar="HOST:PORT",
    help="where to serve (default: 127.0.0.1:8000); port 0 picks a free one",
)
@click.option(
    "--concurrency",
    callback=_count,
    metavar="N",
    help="how many jobs the worker runs at once (default: its pool's; 100 for asyncio)",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="keep Valkey's data in this folder (default: a temporary one)",
)
@pass_script_info
def dev(info: ScriptInfo, bind: Address, concurrency: int | None, data: Path | None) -> None:
    """Run a private Valkey (unless SERVICE_REDIS_URL is set), one worker and one web process until
    Ctrl-C. Changes of code are seen after a restart.
    """
    # Worker and web would refuse it all too, but each in its own way, far up in the log.
    sys.path.insert(0, str(Path.cwd()))  # where they look for modules, and a script does not
    app = info.load_app()
    get_celery(app)
    if os.environ.get("SERVICE_REDIS_URL"):  # else there is no Redis yet
        refuse(inspect_redis(parts_of(app).settings))
    run_dev(address=bind, concurrency=concurrency, data=data)
