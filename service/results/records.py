"""Writes the records of jobs that no worker has, in the form of Celery's result backend."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.results.model import State, now
from service.results.store import key_prefix
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Records:
    """How records are kept: what begins their keys, and for how many seconds."""

    prefix: str
    lifetime: int

    def key(self, job_id: str) -> str:
        """The record's key in Redis."""
        return self.prefix + job_id


def records_of(settings: Settings) -> Records:
    """How the service with these settings keeps its records."""
    return Records(key_prefix(settings), settings.result_expires)


def queued_record(job_id: str, task: str | None, queued_at: str) -> dict[str, Any]:
    """What is stored of a job that waits.

    Celery takes a state that it does not know, such as QUEUED, for one that is not ready.
    `owner` is who enqueued the job: nobody, for now.
    """
    return {
        "status": State.QUEUED.value,
        "result": None,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": job_id,
        "name": task,
        "queued_at": queued_at,
        "owner": None,
    }


def ended_record(
    meta: Mapping[str, Any], state: State, error: tuple[str, str], message: str
) -> bytes:
    """What is stored of a job that ends without a worker; `error` is a module and a class in it."""
    module, name = error
    result = {"exc_type": name, "exc_message": [message], "exc_module": module}
    ended = {"status": state.value, "result": result, "date_done": now()}
    return json.dumps({**meta, **ended}).encode()
