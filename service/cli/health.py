"""`service health`: says whether a worker is healthy."""

from importlib import import_module

import click


@click.command(
    "health",
    short_help="say whether a worker is healthy, by its heartbeat file",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker_health(arguments: tuple[str, ...]) -> None:
    """Hand over to what the `service` script runs by itself, without this package."""
    raise SystemExit(import_module("_service_command").health(arguments))
