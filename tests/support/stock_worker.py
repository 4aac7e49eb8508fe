"""A Celery app as anybody has one, without anything of this project's."""

import asyncio
import json
import os
from decimal import Decimal
from typing import Any

from celery import Celery, Task

app = Celery("stock", broker=os.environ["STOCK_BROKER"], backend=os.environ["STOCK_BACKEND"])
app.conf.update(json.loads(os.environ.get("STOCK_CONF", "{}")), worker_hijack_root_logger=False)


@app.task(name="sample.add", bind=True)
def add(self: "Task", a: int, b: int) -> int:  # type: ignore[type-arg]  # celery-types: generic
    """Add, and note with what options the job came."""
    request: Any = self.request
    seen = {
        "id": request.id,
        "eta": request.eta,
        "expires": request.expires,
        "queue": request.delivery_info["routing_key"],
        "priority": request.delivery_info["priority"],
        "tenant": getattr(request, "tenant", None),
    }
    print(json.dumps(seen), flush=True)  # noqa: T201  the test reads it
    return a + b


@app.task(name="sample.add_async")
def add_async(a: int, b: int) -> int:
    """Add; a stock worker runs no coroutine functions."""
    return asyncio.run(asyncio.sleep(0, a + b))


@app.task(name="typed.total")
def total_of_order(order: dict[str, Any]) -> Decimal:
    """Sum up what was sent as a dataclass."""
    return sum((Decimal(item["price"]) for item in order["items"]), Decimal(0))


@app.task(name="typed.simple")
def simple(*args: Any, **kwargs: Any) -> list[str]:
    """Name the classes of what came."""
    return [type(value).__name__ for value in [*args, *kwargs.values()]]


@app.task(name="sample.total")
def total(numbers: list[int]) -> int:
    """Sum up."""
    return sum(numbers)
