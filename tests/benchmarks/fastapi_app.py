"""The usual way to do the same: FastAPI and Celery's `delay()` in the handler."""

import os
from typing import Any

from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

celery = Celery(broker=os.environ["SERVICE_REDIS_URL"], backend=os.environ["SERVICE_REDIS_URL"])
app: Any = FastAPI()


@celery.task(name="demo.my_add")
def my_add(a: int, b: int) -> int:
    """Never run here."""
    return a + b


class Arguments(BaseModel):
    """What my_add takes."""

    a: int
    b: int


@app.post("/tasks/demo.my_add", status_code=202)  # type: ignore[untyped-decorator]  # app is Any
def start(arguments: Arguments) -> dict[str, str]:
    """A plain function, which FastAPI runs in a thread."""
    return {"id": my_add.delay(arguments.a, arguments.b).id}
