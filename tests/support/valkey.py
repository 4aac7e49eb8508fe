"""Runs a real Valkey server that a test may stop, kill, freeze and start again."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from service.dev.valkey import valkey_binary
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.wait import wait_until


class Valkey:
    """A Valkey server on a free port that it keeps for life; in memory unless `config` says more.

    `config` is Valkey's own: `{"appendonly": "yes"}` keeps the data in `folder` across restarts.
    `options` are more arguments of its command line, and `binary` is another server than Valkey's.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, str] | None = None,
        *,
        options: Sequence[str] = (),
        binary: Path | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(folder),
            "save": "",
            "maxmemory-policy": "noeviction",
            **(config or {}),
        }
        arguments = [*_arguments(settings), *options]
        self._process = Process([binary or valkey_binary(), *arguments], name="valkey")

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self._process.output

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        self._process.start()
        wait_until(self.answers, description="Valkey answers a PING")
        return self

    def begin(self, config: Mapping[str, str]) -> None:
        """Start the server with more of its own configuration, and do not wait until it answers."""
        command = self._process.command
        self._process.command = [*command, *_arguments(config)]
        self._process.start()
        self._process.command = command

    def stop(self) -> None:
        """Shut down in order (SIGTERM)."""
        self._process.stop()

    def kill(self) -> None:
        """End at once (SIGKILL), as in a crash."""
        self._process.kill()

    def restart(self) -> None:
        """Stop in order and start again on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Keep every connection open and answer nothing (SIGSTOP), as a hung server does."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """A new synchronous client that answers with text; use it in a `with`."""
        return Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def flush(self) -> None:
        """Delete every key in every database."""
        with self.client() as client:
            client.flushall()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.close()

    def answers(self) -> bool:
        """Whether the server serves."""
        assert self._process.returncode is None, self._process.tail
        try:
            # By the older protocol, which a server that is started without HELLO speaks too.
            with Redis.from_url(self.url, socket_timeout=5, protocol=2) as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False


def _arguments(config: Mapping[str, str]) -> list[str]:
    return [part for name, value in config.items() for part in (f"--{name}", value)]
