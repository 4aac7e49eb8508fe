"""Serves the metrics of a process on a port of their own, from threads."""

import logging
import threading
from typing import Any, Final

logger: Final = logging.getLogger(__name__)

_AGAIN: Final = 2.0  # seconds until a port that was taken is tried again


class MetricsPort:
    """A port that whoever reaches it can read; another process may have it at first.

    So the next worker on a machine takes over the port of one that goes on to finish its jobs.
    `serve` begins to serve on a host and a port, and returns the server and its thread.
    """

    def __init__(self, host: str, port: int, serve: Any) -> None:
        self._address = host, port
        self._serve = serve
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._server: Any = None

    def open(self) -> None:
        """Begin to serve, now or once the port is free."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="metrics-port", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None

    def _run(self) -> None:
        was_told = False
        while not self._stopping.is_set():
            try:
                self._server = self._serve(*self._address)
            except OSError as error:
                if not was_told:
                    text = (
                        "The metrics cannot be served on %s port %s yet, which is tried again: %s"
                    )
                    logger.warning(text, *self._address, error)
                    was_told = True
                self._stopping.wait(_AGAIN)
            else:
                return
