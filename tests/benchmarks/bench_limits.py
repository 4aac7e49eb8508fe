"""What limits and owners cost a `POST /tasks/<name>`: the web process with both beside one without.

Run it with `python -m tests.benchmarks.bench_limits`. On 1 and on 64 connections one request each
goes to the one process, then to the other, many times in turn: what other processes disturb, they
disturb for both alike. Printed are the processor time that the web process takes for a request,
which its answers tell, and the time by the clock; `median` is that of all turns, `all` their sum.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from tests.benchmarks.http_load import post
from tests.benchmarks.users_app import USED
from tests.support.valkey import Valkey
from tests.support.web import Web

_CONNECTIONS: Final = {1: 3000, 64: 100}  # with the turns on so many
_WARM_UP: Final = 20  # turns
_PER_CONNECTION: Final = 900  # requests: Hypercorn ends a connection after a thousand
_APP: Final = "tests.benchmarks.users_app:app"
_REQUEST: Final = post("/tasks/demo.my_add", b'{"a": 1, "b": 2}', "X-User: ada")
# As many as ever, but counted.
_LIMITED: Final = "requests=9999999/1m,starts=9999999/1m,open-jobs=99999999,open-bytes=99999999999"
_WITHOUT: Final = {"SERVICE_LIMITS": "off"}
_WITH: Final = {"SERVICE_LIMITS": _LIMITED, "WITH_USERS": "1"}
_BOTH: Final = {"SERVICE_MAX_QUEUE": "10000000", "SERVICE_MAX_QUEUE_BYTES": "10000000000"}


class Client:
    """Connections to one web process, on all of which it sends one request in a turn."""

    def __init__(self, web: Web, connections: int) -> None:
        self._address = urlsplit(web.url)
        self._count = connections
        self._connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._sent = self._used = 0
        self.processor: list[float] = []  # microseconds for a request, of each turn
        self.clock: list[float] = []

    async def turn(self) -> None:
        """Send and read; note what it took."""
        if self._sent % _PER_CONNECTION == 0:
            await self._connect()
        self._sent += 1
        began = time.perf_counter()
        used = max(await asyncio.gather(*(self._ask(*each) for each in self._connections)))
        self.clock.append((time.perf_counter() - began) / self._count * 1e6)
        self.processor.append((used - self._used) / self._count)
        self._used = used

    async def _connect(self) -> None:
        for _, writer in self._connections:
            writer.close()
        host, port = self._address.hostname, self._address.port
        self._connections = [await asyncio.open_connection(host, port) for _ in range(self._count)]

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(_REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.split(" ", 2)[1] == "202", head
        told = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(told["content-length"]))
        return int(told[USED.lower()])


async def compare(webs: tuple[Web, Web], connections: int, turns: int) -> tuple[Client, Client]:
    """The clients of both, after so many turns."""
    without, limited = (Client(web, connections) for web in webs)
    for number in range(turns + _WARM_UP):
        for client in (without, limited) if number % 2 else (limited, without):
            await client.turn()
    return without, limited


def main() -> None:
    """Print a line for each number of connections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=float, default=1.0, help="so many times as many turns")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Valkey(Path(folder)) as valkey,
        Web(valkey.url, _APP, "--workers", "0", **_BOTH, **_WITHOUT) as without,
        Web(valkey.url, _APP, "--workers", "0", **_BOTH, **_WITH) as limited,
    ):
        for web in (without, limited):
            web.wait_until_ready()
        for connections, turns in _CONNECTIONS.items():
            clients = asyncio.run(
                compare((without, limited), connections, round(turns * given.times))
            )
            for name in ("processor", "clock"):
                off, on = (getattr(client, name)[_WARM_UP:] for client in clients)
                extra = [more - less for less, more in zip(off, on, strict=True)]
                sys.stdout.write(
                    f"{connections:3} connections, {name:9}  without {median(off):6.0f} us,"
                    f"  with {median(extra):+5.0f} us  {median(extra) / median(off):+.1%} (median)"
                    f"  {sum(on) / sum(off) - 1:+.1%} (all)\n"
                )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
