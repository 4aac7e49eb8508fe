"""`service tokens`: makes, lists and revokes API tokens."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import click
from quart import Quart
from quart.cli import ScriptInfo, pass_script_info

from service.access.access import access_of
from service.access.policy import check_scope
from service.parts import parts_of
from service.settings.limits import SECONDS

_DURATION: Final = re.compile(r"([1-9]\d{0,5})([smhd])")


class _Duration(click.ParamType[float | None]):
    name = "DURATION"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | None:
        """The seconds of `90d`, `12h`, `30m` or `45s`; None of `never`."""
        if value == "never":
            return None
        if (found := _DURATION.fullmatch(str(value))) is None:
            self.fail(f"{value!r} is no duration such as 90d, 12h or never", param, ctx)
        return float(found[1]) * SECONDS[found[2]]


class _Scope(click.ParamType[str]):
    name = "SCOPE"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """A scope as it is."""
        try:
            check_scope(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _with_app(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let a command be a coroutine function that takes the app first."""

    @pass_script_info
    def run(info: ScriptInfo, /, **options: Any) -> None:
        asyncio.run(_run_with(info.load_app(), partial(command, **options)))

    return run


async def _run_with(app: Quart, command: Callable[[Quart], Awaitable[None]]) -> None:
    try:
        await command(app)
    finally:
        await parts_of(app).redis.aclose()


@click.group("tokens", short_help="make, list and revoke API tokens")
def tokens() -> None:
    """API tokens: what programs send as `Authorization: Bearer …`."""


@tokens.command("create", help="make a token, and print it: it cannot be shown again")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=_Scope(),
    multiple=True,
    required=True,
    help="what it is for: start:PATTERN, cancel, viewer, operator or admin; may be given again",
)
@click.option(
    "--expires", "seconds", type=_Duration(), default="90d", show_default=True, help="or `never`"
)
@click.option("--owner", default="", help="whose its jobs are  [default: token:NAME]")
@_with_app
async def _create_token(
    app: Quart, name: str, scopes: tuple[str, ...], seconds: float | None, owner: str
) -> None:
    access = access_of(app)
    text = await access.tokens.create(name, scopes, seconds=seconds, owner=owner)
    await access.audit.add_by_command("create token", name)
    click.echo(text)


@tokens.command("list", help="one line for each")
@_with_app
async def _list_tokens(app: Quart) -> None:
    for token, seen in await access_of(app).tokens.all():
        end = "never expires" if token.expires_at is None else f"until {_moment(token.expires_at)}"
        fields = (
            token.name,
            " ".join(token.scopes),
            f"owner {token.owner}",
            "expired" if token.is_expired else end,
            "never used" if seen is None else f"last used {_moment(seen)}",
        )
        click.echo("  ".join(fields))


@tokens.command("revoke", help="have a token open nothing any more, within five seconds")
@click.argument("name")
@_with_app
async def _revoke_token(app: Quart, name: str) -> None:
    access = access_of(app)
    await access.tokens.revoke(name)
    await access.audit.add_by_command("revoke token", name)
    click.echo(f"{name} is revoked.")


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"
