"""Celery's Redis result backend, with records that tell a job's whole story."""

import json
from datetime import UTC, datetime
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError
from service.jobs.envelope import queued_record
from service.monitor.note import note_state
from service.monitor.recorder import get_recorder
from service.results.model import State


class Backend(RedisBackend):
    """Writes what Celery's own backend writes, and besides: the task, and when it was what.

    Stock clients read these records as their own.
    """

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do not subscribe to the result of each job sent.

        Celery's own does: it blocks for 19 s when Redis is away, and leaks where nobody asks for
        the result (celery#6963). `AsyncResult.get` subscribes by itself.
        """

    def store_queued(self, task_id: str, name: str, queued_at: str) -> None:
        """Record that a job is about to be sent. Raises BrokerUnavailableError."""
        record = json.dumps(queued_record(task_id, name, queued_at))
        try:
            self.client.set(
                self.get_key_for_task(task_id),
                record,
                nx=True,
                ex=self.expires or None,  # type: ignore[attr-defined]  # not in celery-types
            )
        except (RedisError, OSError) as error:
            raise BrokerUnavailableError(str(error) or type(error).__name__) from error

    def progress_record(self, request: Any, progress: dict[str, Any]) -> str:
        """The record of a job that is `progress` far, encoded as any other."""
        meta = self._get_result_meta(progress, State.PROGRESS.value, None, request)
        return str(self.encode({**meta, "task_id": request.id}))

    def _get_result_meta(
        self, result: Any, state: str, traceback: Any, request: Any, **options: Any
    ) -> dict[str, Any]:
        meta: dict[str, Any] = super()._get_result_meta(  # type: ignore[misc]  # not in celery-types
            result, state, traceback, request, **options
        )
        if request is not None:
            if state == states.STARTED:
                request.started_at = datetime.now(UTC).isoformat()
            for key, attribute in _STORY.items():
                meta[key] = getattr(request, attribute, None)
            recorder = get_recorder(self.app.quart_app)  # type: ignore[attr-defined]  # not in celery-types
            note_state(recorder, request.id, state, request)
        return meta


# What is stored besides Celery's own fields: its key (as Celery's `result_extended` names it,
# where it does) and the attribute of the request that it is read from.
_STORY = {
    "name": "task",
    "worker": "hostname",
    "retries": "retries",
    "queued_at": "queued_at",
    "started_at": "started_at",
    "owner": "owner",
}
