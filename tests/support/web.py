"""Runs a real web process."""

import sys

from tests.support.ports import free_port
from tests.support.process import Process


class Web(Process):
    """Hypercorn with the project's own `asgi:app` on a free port; `url` is its address."""

    def __init__(self, redis_url: str, app: str = "asgi:app", *options: str, **env: str) -> None:
        bind = f"127.0.0.1:{free_port()}"
        self.url = f"http://{bind}"
        super().__init__(
            [sys.executable, "-m", "hypercorn", app, "--bind", bind, *options],
            env={"SERVICE_REDIS_URL": redis_url, **env},
            name="web",
        )

    def wait_until_ready(self) -> None:
        """Wait until it listens."""
        self.wait_for_output("Running on")
