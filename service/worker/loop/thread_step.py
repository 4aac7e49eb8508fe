"""A step of Celery's worker that runs a thread of its own from the worker's start to its end."""

import threading
from typing import Any, ClassVar, Final

from celery import bootsteps

STOP_WITHIN: Final = 3.0  # seconds that the end of a worker waits for such a thread


class ThreadStep(bootsteps.StartStopStep):
    """Runs `run` in a daemon thread until `stopping` is set; a subclass has both it and a name."""

    thread_name: ClassVar[str]

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name=self.thread_name, daemon=True)

    def run(self) -> None:
        """Work until `stopping` is set, in the thread."""
        raise NotImplementedError

    def start(self, worker: Any) -> None:
        """Begin."""
        self.thread.start()

    def stop(self, worker: Any) -> None:
        """Have the thread end, and wait for that; not for longer than `STOP_WITHIN`."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(STOP_WITHIN)

    def terminate(self, worker: Any) -> None:
        """Do the same in a cold shutdown."""
        self.stop(worker)
