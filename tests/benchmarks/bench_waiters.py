"""Long-polling clients' latency, and the memory that open event streams take in one process.

Run it with `python -m tests.benchmarks.bench_waiters`. Memory is read from /proc: Linux only.
"""

import asyncio
import resource
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis

from service.redis.keys import RECORD
from tests.benchmarks.http_load import get
from tests.support.records import record
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async
from tests.support.web import Web

POLLING = 1_000
STREAMS = 5_000
GAP = 0.002  # seconds between two results


def store(redis: Redis, count: int) -> None:
    """Have so many jobs be queued."""
    pipeline = redis.pipeline()
    for number in range(count):
        pipeline.set(f"{RECORD}job-{number}", record(f"job-{number}", "QUEUED"), ex=600)
    pipeline.execute()


async def followed(redis: Redis, count: int) -> None:
    """Wait until so many jobs are followed."""
    await wait_until_async(
        lambda: len(redis.pubsub_channels()) == count, timeout=90, description=f"{count} follow"
    )


async def poll_latency(host: str, port: int, redis: Redis) -> list[float]:
    """Seconds from a worker's publish to a client's answer, for each client."""
    store(redis, POLLING)
    published: dict[int, float] = {}
    latencies: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(get(f"/result/job-{number}?wait=60"))
        head = await reader.readuntil(b"\r\n\r\n")
        latencies.append(time.perf_counter() - published[number])
        assert head.startswith(b"HTTP/1.1 200"), head
        writer.close()

    clients = [asyncio.create_task(client(number)) for number in range(POLLING)]
    await followed(redis, POLLING)
    for number in range(POLLING):
        stored = record(f"job-{number}", "SUCCESS", result=number)
        published[number] = time.perf_counter()
        pipeline = redis.pipeline(transaction=False)
        pipeline.set(f"{RECORD}job-{number}", stored, ex=600)
        pipeline.publish(f"{RECORD}job-{number}", stored)
        pipeline.execute()
        await asyncio.sleep(GAP)
    await asyncio.gather(*clients)
    return sorted(latencies)


async def stream_memory(host: str, port: int, redis: Redis, pid: int) -> float:
    """KB that each open event stream takes in the server."""
    store(redis, STREAMS)
    before = resident(pid)
    writers = []
    for start in range(0, STREAMS, 100):
        opened = [asyncio.open_connection(host, port) for _ in range(100)]
        for number, (reader, writer) in enumerate(await asyncio.gather(*opened), start):
            writer.write(get(f"/result/job-{number}/events"))
            writers.append((reader, writer))
        for reader, _ in writers[start:]:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await followed(redis, STREAMS)
    taken = (resident(pid) - before) / STREAMS
    for _, writer in writers:
        writer.close()
    return taken


def resident(pid: int) -> float:
    """KB of memory of a process and those that it started."""
    total = 0.0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            total = float(line.split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total + sum(resident(int(child)) for child in children)


def main() -> None:
    """Measure with servers of its own."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with (
        tempfile.TemporaryDirectory() as folder,
        Valkey(Path(folder)) as valkey,
        Web(valkey.url, SERVICE_LIMITS="off") as web,
        valkey.client() as redis,
    ):
        web.wait_until_ready()
        address = urlsplit(web.url)
        where = (address.hostname or "", address.port or 0)
        latencies = asyncio.run(poll_latency(*where, redis))
        p99 = latencies[int(len(latencies) * 0.99)] * 1000
        median = latencies[len(latencies) // 2] * 1000
        print(f"{POLLING} long polls: median {median:.1f} ms, p99 {p99:.1f} ms  (goal: 100)")
        taken = asyncio.run(stream_memory(*where, redis, web.pid))
        print(f"{STREAMS} event streams: {taken:.0f} KB each  (goal: 100)")


if __name__ == "__main__":
    main()
