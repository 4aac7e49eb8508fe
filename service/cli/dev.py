"""`service dev`: everything on this machine, in one command."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
from quart.cli import ScriptInfo, pass_script_info

from service.broker.checks.startup import inspect_redis, refuse
from service.cli import folder
from service.cli.folder import check_code, has_entry_points
from service.dev import (
    BUILT_IN_APPS,
    OWN_APPS,
    Address,
    DevOptions,
    parse_address,
    run_dev,
    wait_for_change,
)
from service.errors import ConfigurationError
from service.parts import parts_of
from service.web.http.site import site_of


def _address(_: click.Context, __: click.Parameter, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _count(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is not None and (not text.isdecimal() or int(text) < 1):
        raise click.BadParameter(f"{text!r} is not a whole number from 1 up")
    return None if text is None else int(text)


def _queues(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is not None and not all(name.strip() for name in text.split(",")):
        raise click.BadParameter(f"{text!r} is no list of queues, for example celery,mail")
    return text


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
@click.option(
    "--queues",
    callback=_queues,
    metavar="A,B",
    help="which queues the workers take from (default: as configured, else `celery`)",
)
@click.option(
    "--workers",
    callback=_count,
    default="1",
    metavar="N",
    help="how many worker processes to run (default: 1)",
)
@click.option(
    "--reload",
    is_flag=True,
    help="start web and workers anew when code in this folder changes; running jobs begin again",
)
@click.option("--open", "open_browser", is_flag=True, help="open the front page in a browser")
@pass_script_info
def dev(info: ScriptInfo, /, bind: Address, **options: Any) -> None:
    """Run a private Valkey (unless SERVICE_REDIS_URL is set), workers and one web process until
    Ctrl-C: those of asgi.py and worker_entry.py in this folder, and of this package where there
    are none.
    """
    # Worker and web would refuse it all too, but each in its own way, far up in the log.
    try:
        app = info.load_app()
        check_code(app)
    except ConfigurationError as error:
        if not options["reload"]:
            raise
        click.echo(f"service: {error}", err=True)
        told = partial(click.echo, "It is tried again after the next change of code.", err=True)
        wait_for_change(Path.cwd(), watching=told)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  this very command
    if os.environ.get("SERVICE_REDIS_URL"):  # else there is no Redis yet
        refuse(inspect_redis(parts_of(app).settings))
    apps = OWN_APPS if has_entry_points() else BUILT_IN_APPS
    site = site_of(app)
    dashboard, front_page = (
        None if section is None else f"{site.mount or ''}{section}"
        for section in (site.dashboard, site.front_page)
    )
    limits = str(parts_of(app).settings.limits)
    check = (sys.executable, "-m", folder.__name__)
    given = DevOptions(address=bind, check=check, **options)
    run_dev(apps, given, dashboard=dashboard, front_page=front_page, limits=limits)
