"""The metrics of an app, in one object under one key of `app.extensions`."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, Final

from celery import signals as celery_signals
from quart import Quart

from service.errors import ConfigurationError
from service.metrics.children import ChildPipe
from service.metrics.counts import Counts
from service.metrics.port import MetricsPort
from service.metrics.queues import QueueReader
from service.parts import parts_of, runs_jobs
from service.web.limits.checks import held_of

_EXTENSION: Final = "service.metrics"
_TURN: Final = 0.5  # seconds between two looks at how late the event loop is


class Metrics:
    """Hears of the app's jobs, and serves what was counted: in the worker, or beside the web side.

    Under prefork the parent serves, and each of its children tells it what its jobs did.
    """

    def __init__(self, app: Quart) -> None:
        self._app = app
        parts = self._parts = parts_of(app)
        self.counts = Counts(self._is_registered)
        self.queues = QueueReader(parts)
        self._pipe: ChildPipe | None = None  # in a worker, and in the children that it forks
        # By its name: it imports prometheus-client, which only an extra installs.
        exposition: Any = import_module("service.metrics.exposition")
        held = partial(held_of, app)
        self._exposition = exposition.Exposition(self.counts, self.queues, held)
        self._port: MetricsPort | None = None
        changed = parts.signals.job_changed
        changed.connect(self.counts.record)
        parts.signals.worker_reported.connect(self.counts.record_worker)
        # Weak references: they go with the app.
        celery_signals.worker_init.connect(self._begin_worker)
        celery_signals.worker_process_init.connect(self._begin_child)
        celery_signals.worker_ready.connect(self._serve_worker)

    def expose(self) -> tuple[bytes, str]:
        """The metrics in Prometheus' text format, and its content type. Blocks: for a thread."""
        text: tuple[bytes, str] = self._exposition.text()
        return text

    async def serve(self) -> AsyncGenerator[None]:
        """Watch the event loop; on the web side, serve on the port, too. For `while_serving`."""
        if self._is_child:
            yield
            return
        if not runs_jobs(self._app):
            self.counts.add_tasks(self._parts.tasks)
            self._open_port()
        self.queues.loop = asyncio.get_running_loop()
        watching = asyncio.create_task(self._watch_loop())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await asyncio.to_thread(self._close)

    @property
    def _is_child(self) -> bool:
        """Whether this is a child of prefork's parent, which serves for it."""
        return self._pipe is not None and self._pipe.pid != os.getpid()

    def _is_registered(self, task: str) -> bool:
        celery = self._parts.celery.built
        return task in self._parts.tasks or (celery is not None and task in celery.tasks)

    async def _watch_loop(self) -> None:
        while True:
            asked_at = time.monotonic()
            await asyncio.sleep(_TURN)
            self.counts.record_lag(max(0.0, time.monotonic() - asked_at - _TURN))

    def _open_port(self) -> None:
        settings = self._parts.settings
        if settings.metrics_port and self._port is None:
            serve = partial(self._exposition.serve, is_worker=self._pipe is not None)
            self._port = MetricsPort(settings.metrics_host, settings.metrics_port, serve)
            self._port.open()

    def _close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
        self.queues.close()

    # Celery's signals, in a worker.

    def _begin_worker(self, sender: Any, **_: Any) -> None:
        """Open the pipe before the pool forks."""
        if getattr(sender.app, "quart_app", None) is self._app:
            self._pipe = ChildPipe()

    def _begin_child(self, **_: Any) -> None:
        """Tell the parent from here on. Sent in a worker without children, too."""
        if self._pipe is not None and self._is_child:
            changed = self._parts.signals.job_changed
            if self.counts.record in changed.receivers:
                changed.disconnect(self.counts.record)
                changed.connect(self._pipe.send)

    def _serve_worker(self, sender: Any, **_: Any) -> None:
        if getattr(sender.app, "quart_app", None) is self._app and self._pipe is not None:
            self.counts.add_tasks(name for name in sender.app.tasks if name[:7] != "celery.")
            self._pipe.listen(self.counts.record)
            self._open_port()


def add_metrics(app: Quart) -> Metrics:
    """Give the app its metrics. Raises ConfigurationError without prometheus-client."""
    try:
        import_module("prometheus_client")
    except ImportError as error:
        raise ConfigurationError(
            "SERVICE_METRICS and SERVICE_METRICS_PORT need prometheus-client. Run"
            " `pip install 'quart-celery-service[metrics]'`, or take the settings out."
        ) from error
    metrics = app.extensions[_EXTENSION] = Metrics(app)
    app.while_serving(metrics.serve)
    return metrics


def metrics_of(app: Quart) -> Metrics:
    """The app's metrics."""
    metrics: Metrics = app.extensions[_EXTENSION]
    return metrics
