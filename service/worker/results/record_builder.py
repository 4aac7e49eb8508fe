"""Builds the records of jobs that run, by Celery's settings and our own."""

from typing import Any, Final

from celery import states

from service.jobs.celery.app import QuartCelery
from service.parts import parts_of
from service.results.record import encode_job
from service.worker.results.writer import RecordWrite

# The fields of a record that do not come from `result_extended`.
_BASIC: Final = frozenset({"status", "result", "traceback", "children", "date_done"})


class RecordBuilder:
    """Builds the records that one of our backends stores.

    Keeps what Celery looks up anew, or takes a lock for, each time that it is asked.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._app: QuartCelery = backend.app
        self._tasks: Any = self._app.tasks
        self._is_extended = bool(self._app.conf.find_value_for_key("extended", "result"))
        parts = parts_of(self._app.quart_app)
        self._max_bytes = parts.settings.max_result
        self.open_ttl = parts.keys.open_ttl

    def build(
        self, task_id: str, result: Any, state: str, traceback: Any, request: Any
    ) -> RecordWrite:
        """The record of a job in a state; `request` is Celery's, or None.

        Raises UnstorableResultError.
        """
        backend = self._backend
        extended: dict[str, Any] = {}
        arguments = None
        if request is not None:
            if self._is_extended:
                fields = backend._get_result_meta(None, states.PENDING, None, request)  # noqa: SLF001
                extended = {key: value for key, value in fields.items() if key not in _BASIC}
            task = self._tasks.get(getattr(request, "task", None))
            if task is not None:
                arguments = self._app.shown_arguments(task, request.args, request.kwargs)
        ttl, final = self.open_ttl, state in states.READY_STATES
        if final:
            ttl = backend.failure_expires if state == states.FAILURE else backend.expires
        return RecordWrite(
            key=backend.get_key_for_task(task_id),
            record=encode_job(
                task_id,
                state,
                result,
                traceback=traceback,
                children=backend.current_task_children(request),
                request=request,
                extended=extended,
                arguments=arguments,
                max_bytes=self._max_bytes,
            ),
            ttl=int(ttl or 0),
            final=final,
        )
