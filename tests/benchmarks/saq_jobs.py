"""The no-op in SAQ.

python -m saq tests.benchmarks.saq_jobs.settings
python -m tests.benchmarks.saq_jobs COUNT        enqueues
"""

import asyncio
import os
import sys
from typing import Any

from saq import Queue


async def noop(context: Any) -> int:
    """Nothing."""
    del context
    return 1


# Each of its jobs at once takes a connection.
queue = Queue.from_url(
    os.environ.get("BENCH_REDIS_URL", "redis://localhost") + "?max_connections=500"
)
settings: dict[str, Any] = {"queue": queue, "functions": [noop], "concurrency": 100}


async def _fill(count: int) -> None:
    await queue.connect()
    for start in range(0, count, 500):
        await asyncio.gather(
            *(queue.enqueue("noop") for _ in range(start, min(start + 500, count)))
        )
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(_fill(int(sys.argv[1])))
