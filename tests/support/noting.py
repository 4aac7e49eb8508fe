"""Notes in a file what tasks do: unlike a result it survives a SIGKILL and an outage of Redis."""

import os
import time
from uuid import uuid4


class Run:
    """One run of a job; its start is noted now."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._name = uuid4().hex  # two runs of a job may overlap in one process
        self._note("start")

    def end(self) -> None:
        """The body is done."""
        self._note("end")

    def _note(self, what: str) -> None:
        line = f"{what} {self._label} {os.getpid()} {time.time():.6f} {self._name}\n"
        file = os.open(os.environ["BROKER_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line.encode())  # one write, or lines of two processes would mix
        finally:
            os.close(file)
