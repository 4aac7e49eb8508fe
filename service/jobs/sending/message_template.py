"""A task's message with everything in place that is the same for each job.

Celery's routers, options and representation of arguments cost several times what is left.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from celery import Task
from celery.app.routes import MapRoute
from celery.signals import after_task_publish, before_task_publish, task_sent
from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps

from service.jobs.sending.message import Envelope

# What is put where a job's own values go. No name or option can have them: they are not JSON
# escapes, and JSON writes every control character as one.
_ID, _TAG, _TIME, _ARGS, _KWARGS, _BODY = (f"\x00{mark}\x00" for mark in "ITQAKB")
_MARK: Final = re.compile(r"\\u0000([ITQAKB])\\u0000")
_PLAIN: Final = frozenset({int, float, bool, type(None)})
_SHORT: Final = 100  # characters of text of which `repr` is what `saferepr` gives


def can_have_template(celery: Any, task: Any) -> bool:
    """Whether each message of the task is made alike, by Celery's own code."""
    return (
        task.apply_async.__func__ is Task.apply_async
        and task.shadow_name.__func__ is Task.shadow_name
        and task.serializer in (None, "json")
        and celery.conf.task_protocol == 2  # noqa: PLR2004  of Celery's messages
        and not getattr(task, "compression", None)
        and not getattr(
            task, "_dump_pydantic_arguments", None
        )  # then `apply_async` rewrites the arguments
        and not celery.conf.task_compression
        and not celery.conf.task_send_sent_event
        and not celery.conf.task_always_eager
        and all(isinstance(route, MapRoute) for route in celery.amqp.router.routes)
    )


def is_observed(celery: Any) -> bool:
    """Whether somebody wants to see, or to change, each message when it is sent."""
    return bool(
        before_task_publish.receivers
        or after_task_publish.receivers
        or task_sent.receivers
        or celery.current_worker_task
    )


@dataclass(frozen=True, slots=True)
class Template:
    """Text around marks; `fill` puts a job's own values in their place."""

    message: tuple[str, ...]
    record: tuple[str, ...]
    destinations: tuple[tuple[str, str], ...]
    repr_size: int
    repr_levels: int

    def fill(
        self, job_id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], queued_at: str
    ) -> Envelope:
        """The envelope of one job. Raises kombu's EncodeError where its body is not JSON."""
        try:
            body = dumps((args, kwargs, _NO_CANVAS))
        except (TypeError, ValueError, RecursionError) as error:
            raise EncodeError(str(error)) from error
        values = {
            "I": job_id,
            "T": str(uuid4()),
            "Q": queued_at,
            "A": self._repr(args),
            "K": self._repr(kwargs) if kwargs else "{}",
            "B": base64.b64encode(body.encode()).decode(),
        }
        get = values.get
        return Envelope(
            job_id=job_id,
            message="".join([get(part, part) for part in self.message]),
            record="".join([get(part, part) for part in self.record]),
            destinations=self.destinations,
        )

    def _repr(self, value: Any) -> str:
        """What Celery shows of arguments, as the inside of a JSON string."""
        if _is_plain(value):
            text = repr(value)
            if len(text) <= _SHORT:
                return text
        shown: str = saferepr(value, self.repr_size, maxlevels=self.repr_levels)
        return json.dumps(shown)[1:-1]


def _is_plain(value: Any) -> bool:
    """Whether `repr` gives what `saferepr` would, and needs no escape in JSON."""
    if type(value) is dict:
        if not all(type(name) is str and name.isidentifier() and name.isascii() for name in value):
            return False
        value = tuple(value.values())
    return type(value) is tuple and all(type(item) in _PLAIN for item in value)


_NO_CANVAS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def cut(celery: Any, sample: Envelope) -> Template | None:
    """Make a template of one sealed job, or None where its message depends on the moment."""
    told = json.loads(sample.message)
    headers, properties = told["headers"], told["properties"]
    if headers["eta"] or headers["expires"] or len(sample.destinations) != 1:
        return None
    if told["content-type"] != "application/json" or properties["body_encoding"] != "base64":
        return None
    told["body"] = _BODY
    headers |= {"id": _ID, "root_id": _ID, "argsrepr": _ARGS, "kwargsrepr": _KWARGS}
    headers["queued_at"] = _TIME
    properties |= {"correlation_id": _ID, "delivery_tag": _TAG}
    stored = {**json.loads(sample.record), "task_id": _ID, "queued_at": _TIME}
    return Template(
        message=_split(told),
        record=_split(stored),
        destinations=sample.destinations,
        repr_size=celery.amqp.argsrepr_maxsize,
        repr_levels=celery.conf.task_repr_maxlevels,
    )


def _split(value: Any) -> tuple[str, ...]:
    return tuple(_MARK.split(json.dumps(value)))
