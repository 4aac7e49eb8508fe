"""Writes a job as the message that Celery's workers read, and as the record of its being queued."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from kombu.serialization import dumps
from kombu.utils.uuid import uuid

from service.results.model import State

# Kombu's virtual transport keeps each priority but the first in a list of its own.
PRIORITY_SEPARATOR: Final = "\x06\x16"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A job ready to be written to Redis: `message` goes onto the list `queue`."""

    job_id: str
    queue: str
    message: str
    record: str


def queued_record(job_id: str, task: str, queued_at: str) -> dict[str, Any]:
    """What is stored of a job that waits, in the form of Celery's result backend.

    Celery takes a state that it does not know, such as QUEUED, for one that is not ready.
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


def seal(
    celery: Any, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, job_id: str = ""
) -> Envelope:
    """Build the envelope of a call, reading routes and options from Celery's configuration.

    Raises TypeError where the arguments do not fit the task, and kombu's EncodeError where they
    are not JSON.
    """
    if task.typing:
        task.__header__(*args, **kwargs)
    job_id = job_id or uuid()
    options = celery.amqp.router.route(
        dict(task._get_exec_options()),  # noqa: SLF001  what Task.apply_async starts from
        task.name,
        args,
        kwargs,
        task,
    )
    queue = options.pop("queue", None) or celery.amqp.default_queue
    priority = options.get("priority") or 0
    queued_at = datetime.now(UTC).isoformat()
    parts = celery.amqp.as_task_v2(
        job_id,
        task.name,
        args,
        kwargs,
        expires=options.get("expires"),
        time_limit=options.get("time_limit"),
        soft_time_limit=options.get("soft_time_limit"),
        ignore_result=task.ignore_result,
        reply_to=celery.thread_oid,
    )
    content_type, content_encoding, body = dumps(parts.body, serializer="json")
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": content_encoding,
        "content-type": content_type,
        "headers": {**parts.headers, "queued_at": queued_at},
        "properties": {
            **parts.properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue.name},
            "priority": priority,
            "body_encoding": "base64",
            "delivery_tag": uuid(),
        },
    }
    return Envelope(
        job_id=job_id,
        queue=_list_for(celery, queue.name, priority),
        message=json.dumps(message),
        record=json.dumps(queued_record(job_id, task.name, queued_at)),
    )


def _list_for(celery: Any, queue: str, priority: int) -> str:
    """The Redis list of a queue at a priority, as kombu's `Channel._q_for_pri` names it."""
    options = celery.conf.broker_transport_options
    steps = options.get("priority_steps", (0, 3, 6, 9))
    step = max((s for s in steps if s <= priority), default=steps[0])
    separator = options.get("sep", PRIORITY_SEPARATOR)
    name = f"{queue}{separator}{step}" if step else queue
    return f"{options.get('global_keyprefix', '')}{name}"
