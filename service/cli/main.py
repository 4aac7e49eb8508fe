"""The click group `service`, on its own and as a command of `quart`."""

from collections.abc import Sequence
from typing import Any

import click
from quart.cli import ScriptInfo

from service.cli.check import check_service
from service.cli.dead_letters import dead_letters
from service.cli.dev import dev
from service.cli.exit import exit_on_error
from service.cli.folder import load_app
from service.cli.health import health
from service.cli.pauses import pause_jobs, resume_jobs
from service.cli.queues import queue_lengths
from service.cli.tasks import tasks
from service.cli.tokens import tokens
from service.cli.worker import workers

_INTERRUPTED = 130  # the shell's exit code for Ctrl-C


class _ServiceGroup(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a ServiceError ends it with 1 and a message."""
        try:
            with exit_on_error():
                return super().invoke(ctx)
        except KeyboardInterrupt:  # before there was anything to stop
            ctx.exit(_INTERRUPTED)


@click.group(
    cls=_ServiceGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def service(ctx: click.Context) -> None:
    """Background jobs for async Python web apps."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@service.command(
    "health",
    short_help="say whether a worker is healthy, by its heartbeat file",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _worker_health(arguments: tuple[str, ...]) -> None:
    """Answer as service/__main__.py has it answered without this module."""
    raise SystemExit(health(arguments))


service.add_command(dev)
service.add_command(workers)
service.add_command(check_service)
service.add_command(dead_letters)
service.add_command(tokens)
service.add_command(pause_jobs)
service.add_command(resume_jobs)
service.add_command(queue_lengths)
service.add_command(tasks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    service.main(
        arguments,
        prog_name="service",
        obj=ScriptInfo(create_app=load_app, set_debug_flag=False),
    )
