"""Asks an HTTP/1.1 server over raw sockets, many connections at once, as fast as it answers."""

import asyncio
import time
from typing import Final
from urllib.parse import urlsplit

_PER_CONNECTION: Final = 900  # requests: Hypercorn ends a connection after a thousand


async def requests_per_second(
    url: str, request: bytes, *, connections: int, seconds: float, status: bytes
) -> float:
    """Answers a second, each checked to have the status."""
    count, taken = await answers(
        url, request, connections=connections, seconds=seconds, status=status
    )
    return count / taken


async def answers(
    url: str, request: bytes, *, connections: int, seconds: float, status: bytes
) -> tuple[int, float]:
    """How many answers came, and in which time."""
    address = urlsplit(url)
    deadline = time.perf_counter() + seconds

    async def client() -> int:
        done = 0
        while time.perf_counter() < deadline:
            done += await connection()
        return done

    async def connection() -> int:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        done = 0
        try:
            while done < _PER_CONNECTION and time.perf_counter() < deadline:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.split(b" ", 2)[1] == status, head
                at = head.lower().index(b"content-length:") + 15
                await reader.readexactly(int(head[at : head.index(b"\r", at)]))
                done += 1
        finally:
            writer.close()
        return done

    began = time.perf_counter()
    counts = await asyncio.gather(*(client() for _ in range(connections)))
    return sum(counts), time.perf_counter() - began


def post(path: str, body: bytes, header: str = "Accept: */*") -> bytes:
    """A POST of JSON."""
    return (
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (path.encode(), header.encode(), len(body), body)
    )


def get(path: str) -> bytes:
    """A GET."""
    return b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()
