"""The no-op in arq, which needs an older redis-py and so an interpreter of its own.

PYTHON -m arq tests.benchmarks.arq_jobs.WorkerSettings
PYTHON -m tests.benchmarks.arq_jobs COUNT        enqueues
"""

import asyncio
import os
import sys
from typing import Any, ClassVar

from arq import create_pool  # type: ignore[import-not-found]  # not in our environment
from arq.connections import RedisSettings  # type: ignore[import-not-found]  # the same


async def noop(context: dict[str, Any]) -> int:
    """Nothing."""
    del context
    return 1


class WorkerSettings:
    """As fast as arq can: many at once, and hardly a pause between two looks at the queue."""

    functions: ClassVar = [noop]
    redis_settings = RedisSettings.from_dsn(os.environ.get("BENCH_REDIS_URL", "redis://localhost"))
    max_jobs = 100
    poll_delay = 0.01


async def _fill(count: int) -> None:
    pool = await create_pool(WorkerSettings.redis_settings)
    for start in range(0, count, 500):
        await asyncio.gather(
            *(pool.enqueue_job("noop") for _ in range(start, min(start + 500, count)))
        )


if __name__ == "__main__":
    asyncio.run(_fill(int(sys.argv[1])))
