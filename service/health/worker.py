"""A worker's heartbeat: a file that `service health` looks at, and what systemd hears."""

import threading
from typing import Any, Final

from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool as PreforkPool

from service.parts import parts_of
from service.processes.heartbeat import INTERVAL, HeartbeatFile
from service.processes.notify import READY, STOPPING, TAKES_JOBS, WATCHDOG, Notifier
from service.worker.loop.process import process_of
from service.worker.loop.process_loop import ProcessLoop

_STOP_WITHIN: Final = 3.0  # seconds


class HealthStep(bootsteps.StartStopStep):
    """Beats, in a thread of its own, for as long as the event loop of the jobs turns.

    The broker has no part in it, and so not the main thread, which waits for the broker while that
    is away. Prefork's parent has no loop of jobs: its beats tell that the process runs.
    """

    requires = ("service.worker.loop.lifespan:LifespanStep",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._worker = worker
        path = parts_of(worker.app.quart_app).settings.health_file
        self._file = HeartbeatFile(path, worker.hostname) if path else None
        self._notifier = Notifier.from_environment()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def include_if(self, worker: Any) -> bool:
        """Whether anybody looks at the heartbeats."""
        return bool(self._file or self._notifier)

    def start(self, worker: Any) -> None:
        """Begin: the app has started."""
        if self._notifier is not None:
            self._notifier.tell(READY)
            signals.worker_ready.connect(self._tell_taking)
            signals.worker_shutting_down.connect(self._tell_stopping)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """Beat no more."""
        if not self._thread.is_alive():
            return
        self._stopping.set()
        self._thread.join(_STOP_WITHIN)
        self._tell_stopping()
        if self._file:
            self._file.remove()

    def terminate(self, worker: Any) -> None:
        """The same in a cold shutdown."""
        self.stop(worker)

    def _tell_taking(self, **_: Any) -> None:
        """Connected to the broker; after each reconnect too."""
        if self._notifier is not None:
            self._notifier.tell(TAKES_JOBS)

    def _tell_stopping(self, **_: Any) -> None:
        """Also in the handler of the signal to stop."""
        if self._notifier is not None:
            self._notifier.tell(STOPPING)

    def _run(self) -> None:
        is_prefork = isinstance(self._worker.pool, PreforkPool)
        loop = None if is_prefork else process_of(self._worker.app.quart_app).loop
        watchdog = self._notifier.interval if self._notifier else 0.0
        interval = min(INTERVAL, watchdog or INTERVAL)
        while not self._stopping.is_set():
            if loop is None or self._has_turned(loop):
                self._beat()
            self._stopping.wait(interval)

    def _has_turned(self, loop: ProcessLoop) -> bool:
        """Wait until the loop has turned; False where the worker stops before."""
        turned = threading.Event()
        loop.call_soon(turned.set)
        while not turned.wait(_STOP_WITHIN / 2):
            if self._stopping.is_set():
                return False
        return True

    def _beat(self) -> None:
        if self._notifier is not None and self._notifier.interval:
            self._notifier.tell(WATCHDOG)
        if self._file:
            self._file.beat()
