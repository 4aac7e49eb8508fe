"""`POST /tasks/demo.my_add`, 64 connections: ours beside our no-op GET and FastAPI with Celery.

Run it with `python -m tests.benchmarks.bench_http`; FastAPI and uvicorn have to be installed for
the comparison with them.
"""

import asyncio
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.http_load import get, post, requests_per_second
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.web import Web

CONNECTIONS = 64
SECONDS = 4.0
ROUNDS = 3
ADD = post("/tasks/demo.my_add", b'{"a": 1, "b": 2}')


def measure(url: str, request: bytes, status: bytes) -> float:
    """The rate of one round."""
    return asyncio.run(
        requests_per_second(url, request, connections=CONNECTIONS, seconds=SECONDS, status=status)
    )


def compare(folder: str) -> dict[str, float]:
    """The best round of each, one after the other in turn."""
    port = free_port()
    other = f"http://127.0.0.1:{port}"
    uvicorn = ["-m", "uvicorn", "tests.benchmarks.fastapi_app:app", "--log-level", "error"]
    has_fastapi = all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn"))
    best: dict[str, float] = {}
    with Valkey(Path(folder)) as valkey:
        settings = {"SERVICE_LIMITS": "off", "SERVICE_MAX_QUEUE": "10000000"}
        settings["SERVICE_MAX_QUEUE_BYTES"] = "10000000000"
        env = {"SERVICE_REDIS_URL": valkey.url, "PYTHONPATH": os.pathsep.join(sys.path)}
        with (
            Web(valkey.url, "tests.benchmarks.noop_app:app", **settings) as web,
            Process([sys.executable, *uvicorn, "--port", str(port)], env=env, name="fastapi"),
        ):
            web.wait_until_ready()
            cases = {"ours": (web.url, ADD, b"202"), "no-op": (web.url, get("/noop"), b"200")}
            if has_fastapi:
                asyncio.run(_listening(port))
                cases["FastAPI + Celery"] = (other, ADD, b"202")
            for _ in range(ROUNDS):
                for name, case in cases.items():
                    best[name] = max(best.get(name, 0), measure(*case))
                    valkey.flush()
    return best


async def _listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise RuntimeError("FastAPI does not listen")


def main() -> None:
    """Print rates and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        best = compare(folder)
    for name, rate in best.items():
        print(f"{name:18} {rate:7.0f} requests/s")
    print(f"ours / no-op  {best['ours'] / best['no-op']:.2f}  (goal: 0.6)")
    if "FastAPI + Celery" in best:
        print(
            f"ours / FastAPI + Celery  {best['ours'] / best['FastAPI + Celery']:.1f}  (goal: 2.2)"
        )


if __name__ == "__main__":
    main()
