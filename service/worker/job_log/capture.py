"""Finds the job of each log record and each print, from whichever thread they come."""

import logging
import sys
from collections.abc import Iterable
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from typing import Any, Final

from celery import signals

from service.jobs.job import CurrentJob, running
from service.parts import parts_of
from service.redis.keys import NO_START
from service.results.job_log import make_line
from service.worker.job_log.writer import JobLogs

_REDIRECTED: Final = "celery.redirected"  # Celery's logger for what is printed
_LOGGERS: Final = (None, "celery.task")  # the second one does not hand its records to the root
_STREAMS: Final = {"stdout": redirect_stdout, "stderr": redirect_stderr}
_FORMATTER: Final = logging.Formatter()
_redirected: Final = ExitStack()  # until the worker ends
_process: Final[list[JobLogs]] = []  # those of this worker, unless it keeps none


class JobLogHandler(logging.Handler):
    """Keeps the records that are made in jobs; it never waits, and raises nothing."""

    def __init__(self, logs: JobLogs) -> None:
        super().__init__()
        self._logs = logs

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep the record, if a job made it. Without a lock: most records belong to no job."""
        job = running.get(None)
        if job is None or record.name == _REDIRECTED:  # what is printed comes by the streams
            return True
        line = make_line(record.created, record.levelno, record.name, _formatted(record))
        self._logs.buffer.add(_attempt_of(job), line)
        self._logs.wake()
        return True


class JobStream:
    """Stands for `sys.stdout` or `sys.stderr`: keeps what jobs print, and hands all of it on."""

    def __init__(self, plain: Any, name: str, logs: JobLogs) -> None:
        self.plain = plain
        self._name = name
        self._logs = logs

    def write(self, text: str) -> Any:
        """Keep the text, if a job prints it, and write it."""
        job = running.get(None)
        if job is not None and isinstance(text, str):
            self._logs.buffer.print(_attempt_of(job), self._name, text)
            self._logs.wake()
        return self.plain.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def end_log(job: CurrentJob) -> None:
    """Note that a body or a hook of the job has ended, where its attempt has a log.

    To be called where any attempt has one, as OPEN tells.
    """
    for logs in _process:
        logs.buffer.end(_attempt_of(job))
        logs.wake()


def _attempt_of(job: CurrentJob) -> tuple[str, str]:
    return job.id, job.started_at or NO_START


def _formatted(record: logging.LogRecord) -> str:
    """The message and the traceback, whatever the record was given."""
    try:
        text = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = _FORMATTER.formatException(record.exc_info)
        more = (record.exc_text, record.stack_info)
        return "\n".join([text, *(each for each in more if each)])
    except Exception as error:  # noqa: BLE001  a `__str__` or `__repr__` of the user's
        return f"A record that could not be written: {type(error).__name__}"


@signals.celeryd_init.connect
def _prepare(instance: Any, **_: object) -> None:
    """Note whether this worker keeps the logs of its jobs."""
    quart_app = getattr(instance.app, "quart_app", None)
    _process.clear()
    if quart_app is not None and (settings := parts_of(quart_app).settings).job_log == "on":
        _process.append(JobLogs(settings))


@signals.worker_ready.connect
@signals.worker_process_init.connect
def _capture(**_: object) -> None:
    """Begin, after Celery has set up the log and the streams of this process."""
    for logs in _process:
        for logger in map(logging.getLogger, _LOGGERS):
            is_new = not any(isinstance(each, JobLogHandler) for each in logger.handlers)
            # Python writes warnings of a logger without any handler by itself: so it is to stay.
            if logger.handlers and is_new:
                logger.addHandler(JobLogHandler(logs))
        for name, redirect in _STREAMS.items():
            plain = getattr(sys, name)
            if plain is not None and not isinstance(plain, JobStream):
                stream: Any = JobStream(plain, name, logs)
                _redirected.enter_context(redirect(stream))


@signals.worker_shutdown.connect
@signals.worker_process_shutdown.connect
def _close(**_: object) -> None:
    """Write what is left, and leave the process as it was."""
    for logger in map(logging.getLogger, _LOGGERS):
        for handler in [each for each in logger.handlers if isinstance(each, JobLogHandler)]:
            logger.removeHandler(handler)
    _redirected.close()
    for logs in _process:
        with suppress(Exception):
            logs.close()
    _process.clear()
