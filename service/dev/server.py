"""What `service dev` runs: a private Valkey unless there is a Redis, a worker, a web process."""

import asyncio
import os
import secrets
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import quote

from service.dev.address import Address, listen
from service.dev.guardian import Guardian
from service.dev.supervisor import Command, Probe, supervise
from service.dev.valkey import private_valkey
from service.errors import DevServerError

_REDIS_URL: Final = "SERVICE_REDIS_URL"
_ADMIN_TOKEN: Final = "SERVICE_ADMIN_TOKEN"  # noqa: S105  the setting, not its value
# Not for `/`, which would enqueue a job.
_PROBE: Final = b"HEAD /service-dev-probe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def run_dev(*, address: Address, concurrency: int | None, data: Path | None) -> None:
    """Run everything until asked to stop; nothing that it started is left when it returns.

    Raises DevServerError when something cannot start or ends by itself.
    """
    redis_url = os.environ.get(_REDIS_URL)
    if redis_url and data:
        raise DevServerError(
            f"--data is for the private Valkey, but {_REDIS_URL} names a Redis. Use one of the two."
        )
    token = os.environ.get(_ADMIN_TOKEN) or secrets.token_urlsafe(16)
    env = {_ADMIN_TOKEN: token}
    stages: list[list[Command]] = []
    temporary: Path | None = None
    opening = f"Using the Redis of {_REDIS_URL}."
    with ExitStack() as stack:
        listener, address = listen(address)
        stack.enter_context(listener)
        if not redis_url:
            valkey = private_valkey(data, stack)
            temporary = None if data else valkey.folder
            env[_REDIS_URL] = valkey.url
            kept = f"in {valkey.folder}" if data else "until the end of this run"
            opening = f"Private Valkey at {valkey.url}, data kept {kept}."
            stages.append([valkey.command])
        guardian = stack.enter_context(Guardian(temporary))
        stages.append([_worker(concurrency, env), _web(listener.fileno(), address, env)])
        # What comes after # stays in the browser, so that no log has the token.
        dashboard = f"Dashboard: {address.url}/dashboard/sign-in#token={quote(token, safe='')}"
        serving = f"Serving on {address.url} - press Ctrl-C to stop"
        when_ready = f"{dashboard}\n{serving}"
        asyncio.run(supervise(stages, guardian=guardian, opening=opening, when_ready=when_ready))


def _worker(concurrency: int | None, env: dict[str, str]) -> Command:
    argv = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker", "--loglevel", "INFO"]
    if concurrency is not None:
        argv += ["--concurrency", str(concurrency)]
    return Command(name="worker", argv=tuple(argv), env=env)


def _web(listener: int, address: Address, env: dict[str, str]) -> Command:
    """The web process on the socket that we hold: no other process can take its port."""
    # With any processes of its own Hypercorn exits with 0 even when the app could not start.
    options = ("--bind", f"fd://{listener}", "--workers", "0")
    return Command(
        name="web",
        argv=(sys.executable, "-m", "hypercorn", "asgi:app", *options),
        env=env,
        keep_open=(listener,),
        probe=Probe(address.reachable_host, address.port, _PROBE, b"HTTP/"),
    )
