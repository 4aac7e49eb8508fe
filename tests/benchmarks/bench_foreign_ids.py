"""Whether the time of a 404 tells that there is such a job, which is somebody else's.

Run it with `python -m tests.benchmarks.bench_foreign_ids`. A stranger asks one web process for an
id that never was and for a job of somebody else's, in turns of random order on one connection. For
each address it prints the median of the times, the middle half of them, and how far apart the two
medians are; beside it, how far those of two ids that never were are, which shows what is noise.
"""

import argparse
import random
import socket
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from redis import Redis

from service.results.record import encode_job
from tests.support.valkey import Valkey
from tests.support.web import Web

_KINDS: Final = ("never was", "never was, too", "foreign, small", "foreign, 500 KB")
_WARM_UP: Final = 100  # turns
_REQUESTS: Final = {
    "GET": "GET /result/{} HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET, as a page": "GET /result/{} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n",
    "GET, waiting": "GET /result/{}?wait=9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "events": "GET /result/{}/events HTTP/1.1\r\nHost: x\r\n\r\n",
    "DELETE": "DELETE /result/{} HTTP/1.1\r\nHost: x\r\n\r\n",
    "several": "GET /jobs?id={} HTTP/1.1\r\nHost: x\r\n\r\n",
}


def store(redis: Redis, job_id: str, size: int) -> None:
    """A job of ada's that has ended with a result of so many bytes."""
    record = encode_job(
        job_id,
        "SUCCESS",
        [1.5] * (size // 5),
        traceback=None,
        children=(),
        request=type("Request", (), {"owner": "ada", "task": "demo.my_add"}),
        extended={},
        arguments=None,
        max_bytes=10**9,
    )
    redis.set(f"celery-task-meta-{job_id}", record)


def seconds(client: socket.socket, request: bytes) -> float:
    """The time until the whole answer is here."""
    began = time.perf_counter()
    client.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65536) or _closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    at = head.lower().index(b"content-length:") + 15
    length = int(head[at:].split(b"\r", 1)[0])
    while len(body) < length:
        body += client.recv(65536) or _closed()
    return time.perf_counter() - began


def _closed() -> bytes:
    raise ConnectionError("The web process has closed the connection")


def compare(web: Web, redis: Redis, request: str, count: int) -> dict[str, list[float]]:
    """The times of so many requests of each kind."""
    ids = {kind: [str(uuid4()) for _ in range(10)] for kind in _KINDS}
    for kind, size in (("foreign, small", 5), ("foreign, 500 KB", 500_000)):
        for job_id in ids[kind]:
            store(redis, job_id, size)
    address = urlsplit(web.url)
    times: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for turn in range(count + _WARM_UP):
        if turn % _WARM_UP == 0:  # Hypercorn ends a connection after a thousand requests
            client = socket.create_connection((address.hostname, address.port), timeout=30)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for kind in random.sample(_KINDS, len(_KINDS)):
            taken = seconds(client, request.format(ids[kind][turn % 10]).encode())
            if turn >= _WARM_UP:
                times[kind].append(taken)
        if turn % _WARM_UP == _WARM_UP - 1:
            client.close()
    return times


def main() -> None:
    """Print a line for each address and kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--only", nargs="*", choices=_REQUESTS, default=list(_REQUESTS))
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Valkey(Path(folder)) as valkey,
        Web(valkey.url, SERVICE_LIMITS="off") as web,
        valkey.client() as redis,
    ):
        web.wait_until_ready()
        for name in given.only:
            times = compare(web, redis, _REQUESTS[name], given.count)
            usual = median(times[_KINDS[0]])
            for kind, taken in times.items():
                middle = quantiles(taken, n=4)
                sys.stdout.write(
                    f"{name:15} {kind:16} median {median(taken) * 1e6:7.0f} us"
                    f"  middle half {middle[0] * 1e6:7.0f} to {middle[2] * 1e6:7.0f}"
                    f"  apart {(median(taken) - usual) * 1e6:+7.1f}\n"
                )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
