"""`service worker`: several worker processes under one parent."""

import logging
import os
from pathlib import Path
from typing import Final

import click

from service.cli.folder import has_entry_points
from service.dev import BUILT_IN_APPS, OWN_APPS
from service.logs.json_lines import JsonFormatter
from service.logs.lines import LineFormatter
from service.processes import MB, WorkersPlan, run_workers, usable_cores
from service.settings import read_settings

# Celery's own worker has this line.
_LINE: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
_NOT_HERE: Final = {
    "-n": "Use --name.",
    "--hostname": "Use --name.",
    "-B": "Each process would send the jobs that are due. Run `celery beat` by itself, once.",
    "--beat": "Each process would send the jobs that are due. Run `celery beat` by itself, once.",
    "-D": "Run it by a service manager: service/docs/deploying.md.",
    "--detach": "Run it by a service manager: service/docs/deploying.md.",
}


def _processes(_: click.Context, __: click.Parameter, text: str) -> int:
    if text == "auto":
        return usable_cores()
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is neither `auto` nor a whole number from 1 up")
    return int(text)


def _memory(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not a whole number of MB")
    if not Path("/proc/self/statm").exists():
        raise click.BadParameter("this system does not tell how much memory a process holds")
    return int(text) * MB


def _celery_options(
    _: click.Context, __: click.Parameter, words: tuple[str, ...]
) -> tuple[str, ...]:
    for word in words:
        if why := _NOT_HERE.get(word.partition("=")[0]):
            raise click.BadParameter(f"{word} cannot be given. {why}")
    return words


@click.command(
    "worker",
    context_settings={"ignore_unknown_options": True},
    short_help="run a worker process for each processor",
)
@click.option("-A", "--app", metavar="APP", help="the Celery app (default: worker_entry)")
@click.option(
    "--processes",
    callback=_processes,
    default="auto",
    metavar="N",
    help="how many processes to run (default: auto, one for each processor)",
)
@click.option(
    "--max-memory",
    callback=_memory,
    metavar="MB",
    help="restart a process that holds more memory than this",
)
@click.option(
    "--name",
    default="worker",
    metavar="NAME",
    help="what the workers are called, with a number each (default: worker)",
)
@click.argument(
    "options",
    nargs=-1,
    callback=_celery_options,
    type=click.UNPROCESSED,
    metavar="[CELERY OPTIONS]...",
)
def workers(
    app: str | None, processes: int, max_memory: int | None, name: str, options: tuple[str, ...]
) -> None:
    """Run several worker processes as one: each is `celery -A APP worker` with the CELERY OPTIONS,
    such as `--queues mails -c 200`, and is started again when it ends.

    A signal to stop goes to all. SIGHUP restarts them one after the other, with new code.
    """
    settings = read_settings(os.environ)
    ports = {
        "SERVICE_METRICS_PORT": settings.metrics_port,
        "SERVICE_HEALTH_PORT": settings.health_port,
    }
    handler = logging.StreamHandler()
    ours = JsonFormatter if settings.log == "json" else LineFormatter
    handler.setFormatter(ours(_LINE))
    logging.getLogger("service.processes").addHandler(handler)
    logging.getLogger("service.processes").setLevel(logging.INFO)
    run_workers(
        WorkersPlan(
            app=app or (OWN_APPS if has_entry_points() else BUILT_IN_APPS).worker,
            count=processes,
            options=options,
            name=name,
            max_memory=max_memory,
            health_file=settings.health_file,
            ports={variable: port for variable, port in ports.items() if port},
        )
    )
