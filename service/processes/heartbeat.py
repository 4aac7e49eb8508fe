"""The file by whose age `service health` judges a worker."""

import logging
import os
from pathlib import Path
from typing import Final

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 5.0  # seconds between two heartbeats


class HeartbeatFile:
    """Is written at each heartbeat, and has the worker's name; its age tells of the last one."""

    def __init__(self, path: str, name: str) -> None:
        self._path = Path(path)
        self._text = f"{name}\n"
        self._is_writable = True

    def beat(self) -> None:
        """Write it anew. That it cannot be written is logged once."""
        new = Path(f"{self._path}.{os.getpid()}")
        try:
            new.write_text(self._text)
            new.replace(self._path)
        except OSError as error:
            if self._is_writable:
                text = "The heartbeat cannot be written, so `service health` will fail: %s"
                logger.error(text, error)  # noqa: TRY400  the sentence says all
            self._is_writable = False
        else:
            self._is_writable = True

    def remove(self) -> None:
        """Beat no more."""
        self._path.unlink(missing_ok=True)
