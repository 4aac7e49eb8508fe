"""What `service dev` runs: a private Valkey unless there is a Redis, a worker, a web process."""

import asyncio
import os
import secrets
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import quote

from service.dev.address import Address, listen
from service.dev.child import Command
from service.dev.guardian import Guardian
from service.dev.supervisor import supervise
from service.dev.valkey import PrivateValkey, private_valkey
from service.errors import DevServerError

_REDIS_URL: Final = "SERVICE_REDIS_URL"
_ADMIN_TOKEN: Final = "SERVICE_ADMIN_TOKEN"  # noqa: S105  the setting, not its value
_PROBE: Final = b"HEAD /service-dev-probe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_PROBE_AGAIN: Final = 5.0  # seconds without an answer


def run_dev(*, address: Address, concurrency: int | None, data: Path | None) -> None:
    """Run everything until asked to stop; nothing that it started is left when it returns.

    Raises DevServerError when something cannot start or ends by itself.
    """
    redis_url = os.environ.get(_REDIS_URL)
    if redis_url and data:
        raise DevServerError(
            f"--data is for the private Valkey, but {_REDIS_URL} names a Redis. Use one of the two."
        )
    with ExitStack() as stack:
        listener, address = listen(address)
        stack.enter_context(listener)
        valkey = None if redis_url else stack.enter_context(private_valkey(data))
        guardian = stack.enter_context(Guardian(valkey.temporary if valkey else None))
        token = os.environ.get(_ADMIN_TOKEN) or secrets.token_urlsafe(16)
        env = {_REDIS_URL: redis_url or (valkey.url if valkey else ""), _ADMIN_TOKEN: token}
        services = [_worker(concurrency, env=env), _web(listener, address, env=env)]
        asyncio.run(
            supervise(
                [[valkey.command], services] if valkey else [services],
                guardian=guardian,
                opening=_say_where_data_is(valkey),
                when_ready=_say_where_to_look(address, token),
            )
        )


def _say_where_to_look(address: Address, token: str) -> str:
    # What comes after # stays in the browser, so that no log has the token.
    dashboard = f"Dashboard: {address.url}/dashboard/sign-in#token={quote(token, safe='')}"
    return f"{dashboard}\nServing on {address.url} - press Ctrl-C to stop"


def _say_where_data_is(valkey: PrivateValkey | None) -> str:
    if valkey is None:
        return f"Using the Redis of {_REDIS_URL}."
    kept = "until the end of this run" if valkey.temporary else f"in {valkey.folder}"
    return f"Private Valkey at {valkey.url}, data kept {kept}."


def _worker(concurrency: int | None, *, env: dict[str, str]) -> Command:
    argv = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker", "--loglevel", "INFO"]
    if concurrency is not None:
        argv += ["--concurrency", str(concurrency)]
    return Command(name="worker", argv=tuple(argv), env=env)


def _web(listener: socket.socket, address: Address, *, env: dict[str, str]) -> Command:
    """The web process on the socket that we hold: nobody can take its port in between."""

    async def is_ready() -> bool:
        return await _is_answered(address)

    bind = f"fd://{listener.fileno()}"
    # With any processes of its own Hypercorn exits with 0 even when the app could not start.
    in_itself = ("--workers", "0")
    return Command(
        name="web",
        argv=(sys.executable, "-m", "hypercorn", "asgi:app", "--bind", bind, *in_itself),
        env=env,
        keep_open=(listener.fileno(),),
        is_ready=is_ready,
    )


async def _is_answered(address: Address) -> bool:
    """Whether the app answers a request; not one for `/`, which would enqueue a job."""
    try:
        async with asyncio.timeout(_PROBE_AGAIN):
            reader, writer = await asyncio.open_connection(address.reachable_host, address.port)
            try:
                writer.write(_PROBE)
                return (await reader.readline()).startswith(b"HTTP/")
            finally:
                writer.close()
    except OSError:  # TimeoutError is one
        return False
