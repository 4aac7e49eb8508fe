"""A worker's heartbeat: a file for `service health`, a port for probes, and what systemd hears."""

import logging
import threading
import time
from typing import Any, Final

from celery import signals
from celery.concurrency.prefork import TaskPool as PreforkPool

from service.health.port import ProbePort
from service.parts import parts_of
from service.processes.heartbeat import INTERVAL, HeartbeatFile
from service.processes.notify import READY, STOPPING, TAKES_JOBS, WATCHDOG, Notifier
from service.worker.loop.process import process_of
from service.worker.loop.process_loop import ProcessLoop
from service.worker.loop.thread_step import STOP_WITHIN, ThreadStep

logger: Final = logging.getLogger(__name__)

_MAX_AGE: Final = 30.0  # seconds without a beat after which it is not healthy, as `service health`


class HealthStep(ThreadStep):
    """Beats, in a thread of its own, for as long as the event loop of the jobs turns.

    The broker has no part in it, and so not the main thread, which waits for the broker while that
    is away. Prefork's parent has no loop of jobs: its beats tell that the process runs.
    """

    requires = ("service.worker.loop.lifespan:LifespanStep",)
    thread_name = "health"

    def __init__(self, worker: Any, *, max_age: float = _MAX_AGE, **options: Any) -> None:
        """After `max_age` seconds without a beat the port says that it is not healthy."""
        super().__init__(worker, **options)
        self._worker = worker
        settings = parts_of(worker.app.quart_app).settings
        path = settings.health_file
        self._file = HeartbeatFile(path, worker.hostname) if path else None
        self._address = settings.health_host, settings.health_port
        self._port: ProbePort | None = None
        self._cannot_serve = False
        self._max_age = max_age
        self._beat_at = time.monotonic()
        self._has_started = self._is_stopping = False
        self._notifier = Notifier.from_environment()

    def include_if(self, worker: Any) -> bool:
        """Whether anybody looks at the heartbeats."""
        return bool(self._file or self._notifier or self._address[1])

    def start(self, worker: Any) -> None:
        """Begin: the app has started."""
        if self._notifier is not None:
            self._notifier.tell(READY)
        signals.worker_ready.connect(self.tell_taking)
        signals.worker_shutting_down.connect(self.tell_stopping)
        super().start(worker)

    def stop(self, worker: Any) -> None:
        """Beat no more."""
        if not self.thread.is_alive():
            return
        super().stop(worker)
        self.tell_stopping()
        if self._port is not None:
            self._port.close()
        if self._file:
            self._file.remove()

    def tell_taking(self, **_: Any) -> None:
        """Tell that the worker is connected to the broker; after each reconnect too."""
        self._has_started = True
        if self._notifier is not None:
            self._notifier.tell(TAKES_JOBS)

    def tell_stopping(self, **_: Any) -> None:
        """Tell that it ends; Celery calls this in the handler of the signal to stop."""
        self._is_stopping = True
        if self._notifier is not None:
            self._notifier.tell(STOPPING)

    def run(self) -> None:
        """Beat while the loop of the jobs turns, and open the port."""
        is_prefork = isinstance(self._worker.pool, PreforkPool)
        loop = None if is_prefork else process_of(self._worker.app.quart_app).loop
        watchdog = self._notifier.interval if self._notifier else 0.0
        interval = min(INTERVAL, watchdog or INTERVAL)
        while not self.stopping.is_set():
            if self._address[1] and self._port is None:
                self._open_port()
            if loop is None or self._has_turned(loop):
                self._beat()
            self.stopping.wait(interval)

    def _has_turned(self, loop: ProcessLoop) -> bool:
        """Wait until the loop has turned; False where the worker stops before."""
        turned = threading.Event()
        loop.call_soon(turned.set)
        while not turned.wait(STOP_WITHIN / 2):
            if self.stopping.is_set():
                return False
        return True

    def _open_port(self) -> None:
        """Open it, unless another process has it yet, such as a worker that goes on to its end."""
        probes = {"/healthz": ("healthy", self._unhealthy), "/readyz": ("ready", self._unready)}
        try:
            self._port = ProbePort(*self._address, probes)
        except OSError as error:
            if not self._cannot_serve:
                text = "Probes cannot be answered on %s port %s yet, which is tried again: %s"
                logger.warning(text, *self._address, error)
            self._cannot_serve = True

    def _unhealthy(self) -> list[str]:
        age = time.monotonic() - self._beat_at
        return (
            [f"The event loop of the jobs is blocked: {age:.0f} s."] if age > self._max_age else []
        )

    def _unready(self) -> list[str]:
        """What keeps the worker from taking jobs."""
        if self._is_stopping:
            return ["The worker is stopping."]
        if not self._has_started:
            return ["The start-up is not done."]
        gaps = self._unhealthy()
        if self._worker.consumer.connection is None:  # as Celery leaves it until it has a new one
            gaps.append("The worker has lost its connection to the broker.")
        return gaps

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        if self._notifier is not None and self._notifier.interval:
            self._notifier.tell(WATCHDOG)
        if self._file:
            self._file.beat()
