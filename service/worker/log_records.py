"""The worker's log: each record knows the job that it belongs to, whichever logger wrote it.

The end of each attempt has one line, which is Celery's own: its figures are added here.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from billiard.util import get_logger as billiards_logger
from celery import signals
from celery._state import get_current_task
from celery.app import trace
from celery.app.defaults import DEFAULTS
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter
from celery.worker import strategy
from celery.worker.consumer import consumer

from service.jobs.job import running
from service.logs.handlers import init_handlers
from service.logs.ids import REQUEST_ID, ids_here
from service.logs.json_lines import JsonFormatter
from service.logs.lines import LineFormatter
from service.parts import parts_of
from service.redis.transient import TRANSIENT, reason_of
from service.signals import seconds_since_epoch

_CELERYS: Final = str(DEFAULTS["worker_log_format"])
_OURS: Final = _CELERYS.replace("%(message)s", "%(in_job)s%(message)s")
_TRACER: Final = trace.__name__
_STRATEGY: Final = strategy.__name__  # logs that a job was received, which is none's work
# The words of Celery by which an attempt ends: those of its tracer, and those of its worker.
_ENDS: Final = {
    trace.LOG_SUCCESS: "SUCCESS",
    trace.LOG_FAILURE: "FAILURE",
    trace.LOG_RETRY: "RETRY",
    trace.LOG_IGNORED: "REVOKED",
}
_ENDS_OUTSIDE: Final = {
    "Discarding revoked task: %s[%s]": "REVOKED",
    "Task %s[%s] was terminated": "REVOKED",  # ours: Celery has no line for it
    "Hard time limit (%ss) exceeded for %s[%s]": "FAILURE",
    "Task handler raised error: %r": "FAILURE",
}

# The job that a worker's main thread ends, as no tracer does.
_ending: Final[ContextVar[Any]] = ContextVar("ending_job", default=None)


@contextmanager
def ending(request: Any) -> Iterator[None]:
    """Have the line of the end of a job, which Celery's worker writes meanwhile, be of this job."""
    token = _ending.set(request)
    try:
        yield
    finally:
        _ending.reset(token)


class JobRecord(logging.LogRecord):
    """A record with `task_id`, `task_name` and `request_id`, of which Celery has the first two.

    They are empty outside of jobs.

    They are for any formatter: `%(task_id)s`. Yet they come among the record's names only when it
    is formatted; before, they would make `logger.info(…, extra={"task_id": …})` a KeyError. A
    record of the end of an attempt has `state`, `waited_ms` and `ran_ms` besides, as far as they
    are known, and its message has them too.
    """

    __slots__ = ("end", "ids", "request_id", "task_id", "task_name")
    as_json = False  # whether it has all that JSON says of the job

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        job = running.get(None)
        self.task_id = self.task_name = self.request_id = ""
        if job is not None:
            self.task_id, self.task_name = job.id, job.task
            self.request_id = job.request_id or ""
        self.end: dict[str, Any] | None = None
        request = None
        if name == _TRACER:
            if (state := _ENDS.get(self.msg)) and (request := _current_request()) is not None:
                self.end = _end_in_tracer(self, state, request)
        elif (ends := _ending.get()) is not None:
            self.end = _end_outside(self, ends)
        if self.as_json:
            if request is None and name != _STRATEGY:
                request = _current_request()
            self.ids = _job_ids(request, self.args)
            if self.end is not None:
                self.ids |= self.end

    def getMessage(self) -> str:  # noqa: N802  logging's own
        """The message; every formatter asks for it first."""
        fields = self.__dict__
        fields.setdefault("task_id", self.task_id)
        fields.setdefault("task_name", self.task_name)
        fields.setdefault(REQUEST_ID, self.request_id)
        message = super().getMessage()
        if self.end is None:
            return message
        fields.update(self.end)
        return f"{message}; {' '.join([f'{name}={value}' for name, value in self.end.items()])}"


class JsonJobRecord(JobRecord):
    """The same, with all that JSON says of the job: its handler may be in another thread."""

    __slots__ = ()
    as_json = True
    worker = ""  # the name of this worker, once it is known that its log is JSON


class WithReasons(logging.Filter):
    """Has Celery's line of a lost connection say why: the `repr` of redis-py's errors does not."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True."""
        if "%r" in str(record.msg) and isinstance(record.args, tuple):
            record.args = tuple(
                reason_of(each) if isinstance(each, TRANSIENT) else each for each in record.args
            )
        return True


class JobFormatter(ColorFormatter, LineFormatter):
    """Celery's own format of a worker's log, with the job before the message of a body."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a record of another factory has no job."""
        job_id, task = getattr(record, "task_id", ""), getattr(record, "task_name", "")
        record.in_job = f"{task}[{job_id}]: " if job_id else ""
        return str(super().format(record))


class TaskLineFormatter(TaskFormatter, LineFormatter):
    """Celery's own for its loggers of tasks."""


def _current_request() -> Any:
    """Celery's request of the job that the code works for, or ends; None outside of jobs."""
    if (ends := _ending.get()) is not None:
        return ends._context  # noqa: SLF001  Celery's own name
    task: Any = get_current_task()
    return None if task is None else task.request_stack.top


def _end_in_tracer(record: logging.LogRecord, state: str, request: Any) -> dict[str, Any] | None:
    """The figures of an end that Celery's tracer tells of."""
    if state == "SUCCESS":
        ran: float = record.args["runtime"]  # type: ignore[index, call-overload, assignment]  # a dict
        return _figures(state, request, record.created - ran, ran)
    if state == "REVOKED" and not getattr(request, "has_newer_state", False):
        return None  # the job has ended before, or goes on
    began = seconds_since_epoch(getattr(request, "started_at", None))
    return _figures(state, request, began, None if began is None else record.created - began)


def _end_outside(record: logging.LogRecord, request: Any) -> dict[str, Any] | None:
    """Those of an end that Celery's worker tells of, whose request this is."""
    state = _ENDS_OUTSIDE.get(record.msg) if isinstance(record.msg, str) else None
    if state is None:
        return None
    began = request.time_start
    ran = None if began is None else record.created - began
    return _figures(state, request._context, began, ran)  # noqa: SLF001  as above


def _figures(state: str, request: Any, began: float | None, ran: float | None) -> dict[str, Any]:
    """The figures, in milliseconds, of times in seconds.

    An attempt has waited since its job was queued, or since it was due. That of a retry without a
    delay is not known: its message says when the job was queued first.
    """
    figures: dict[str, Any] = {"state": state}
    since = request.eta or (None if request.retries else getattr(request, "queued_at", None))
    if since is not None and (moment := seconds_since_epoch(since)) is not None:
        waited = (time.time() if began is None else began) - moment
        figures["waited_ms"] = round(max(0.0, waited) * 1000, 1)
    if ran is not None:
        figures["ran_ms"] = round(ran * 1000, 1)
    return figures


def _job_ids(request: Any, args: Any) -> dict[str, Any]:
    """What JSON says of where a record was made: its job, and the request that this is for."""
    ids: dict[str, Any] = {}
    if request is not None and (job_id := request.id):
        ids = {"task": request.task, "job_id": job_id, "attempt": (request.retries or 0) + 1}
        if (delivery := request.delivery_info) and (queue := delivery.get("routing_key")):
            ids["queue"] = queue
    elif isinstance(args, dict) and "id" in args and "name" in args:  # Celery's, of a job to come
        ids = {"task": args["name"], "job_id": args["id"]}
    ids["worker"] = JsonJobRecord.worker
    if request is None:
        return ids_here(ids)
    if (found := getattr(request, REQUEST_ID, None)) is not None:
        ids[REQUEST_ID] = found
    ids_here(ids)
    if "trace_id" not in ids and (parent := getattr(request, "traceparent", None)):
        ids["trace_id"] = str(parent)[3:35]  # version, trace, span and flags, with `-` between
    return ids


@signals.celeryd_init.connect
def _mark_records(sender: str, instance: Any, **_: object) -> None:
    """Make all records of this worker JobRecords, unless the user's code makes its own.

    Celery's banner, which is no JSON, is left out of a log of JSON.
    """
    as_json = _is_json(instance.app)
    logging.getLogger(consumer.__name__).addFilter(WithReasons())
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(JsonJobRecord if as_json else JobRecord)
    if as_json:
        JsonJobRecord.worker = sender
        instance.quiet = True
        init_handlers(as_json=True)
        logging.captureWarnings(True)  # as Celery does soon


def _is_json(app: Any) -> bool:
    quart_app = getattr(app, "quart_app", None)
    return quart_app is not None and parts_of(quart_app).settings.log == "json"


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def _write_lines(logger: logging.Logger, format: str, colorize: bool, **_: object) -> None:  # noqa: A002
    """Have the handlers that Celery has set up write our lines; one of the user's stays."""
    for handler in (*logger.handlers, *billiards_logger().handlers):
        formatter: Any = handler.formatter
        if type(formatter) not in {ColorFormatter, TaskFormatter}:
            continue
        ours: Any
        if JsonJobRecord.worker:
            ours = JsonFormatter()
        elif type(formatter) is TaskFormatter:
            ours = TaskLineFormatter(format, use_color=colorize)
        else:
            ours = JobFormatter(_OURS if format == _CELERYS else format, use_color=colorize)
        ours.datefmt = formatter.datefmt  # by its name, which celery-types do not know
        handler.setFormatter(ours)


@signals.task_revoked.connect
def _tell_of_termination(request: Any, terminated: bool, **_: object) -> None:
    if terminated:
        logging.getLogger(__name__).info(
            "Task %s[%s] was terminated", getattr(request, "task", None), request.id
        )
