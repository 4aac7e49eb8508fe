"""Makes a real Valkey answer, but refuse, in each of the ways that it has."""

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from redis import Redis
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.valkey import Valkey
from tests.support.wait import wait_until

_SLOWLY: Final = {"key-load-delay": "10000", "loading-process-events-interval-bytes": "1024"}


class Refusals:
    """The ways in which one server refuses: each a context manager, named by the server's word.

    `admin` is the client of a user who keeps all rights.
    """

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._let_admin_in()
        self.admin: Any = Redis.from_url(valkey.url.replace("//", "//admin:any@"))

    def cut(self) -> None:
        """Close all connections but that of `admin`."""
        self.admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    @contextmanager
    def readonly(self) -> Iterator[None]:
        """A switch-over has made a replica of it."""
        self.admin.replicaof("127.0.0.1", "1")
        yield
        self.admin.replicaof("NO", "ONE")

    @contextmanager
    def oom(self) -> Iterator[None]:
        """It is full."""
        with self._config("maxmemory", "1", "0"):
            yield

    @contextmanager
    def noreplicas(self) -> Iterator[None]:
        """It has lost its replicas."""
        with self._config("min-replicas-to-write", "1", "0"):
            yield

    @contextmanager
    def misconf(self) -> Iterator[None]:
        """It cannot save: something is in the place of its file."""
        self.admin.config_set("save", "3600 1")
        in_its_place = self._valkey.folder / "dump.rdb"
        in_its_place.mkdir()
        self.admin.bgsave()
        wait_until(
            lambda: self.admin.info("persistence")["rdb_last_bgsave_status"] != "ok",
            description="saving has failed",
        )
        yield
        self.admin.config_set("save", "")
        in_its_place.rmdir()

    @contextmanager
    def noauth(self) -> Iterator[None]:
        """New connections need a password."""
        with self._config("requirepass", "secret", ""):
            yield

    def noperm(self) -> AbstractContextManager[None]:
        """The worker's user has lost its rights."""
        return self._without(categories=["-@all"])

    def noeval(self) -> AbstractContextManager[None]:
        """The worker's user may not run scripts any more."""
        return self._without(commands=["-eval", "-evalsha"])

    def nopublish(self) -> AbstractContextManager[None]:
        """The worker's user may not publish any more."""
        return self._without(commands=["-publish"])

    @contextmanager
    def _without(self, **rights: list[str]) -> Iterator[None]:
        self.admin.acl_setuser("default", enabled=True, **rights)
        yield
        self.admin.acl_setuser("default", enabled=True, categories=["+@all"])

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Somebody's script does not end."""
        self.admin.config_set("busy-reply-threshold", "50")
        with socket.create_connection(("127.0.0.1", self._valkey.port)) as somebody:
            somebody.sendall(b"EVAL 'while true do end' 0\r\n")
            wait_until(self._is_busy, description="it is busy")
            yield
            self.admin.execute_command("SCRIPT", "KILL")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """It was started again, and reads its data slowly."""
        for i in range(200):
            self.admin.set(f"celery-task-meta-ballast{i}", "x" * 2000, ex=600)
        self.admin.bgrewriteaof()
        wait_until(
            lambda: not self.admin.info("persistence")["aof_rewrite_in_progress"],
            description="its data are in the form that it reads piece by piece",
        )
        self._valkey.kill()
        self._valkey.begin(_SLOWLY)
        wait_until(self._is_loading, description="it reads its data")
        yield
        wait_until(self._valkey.answers, description="it has read its data")
        self._let_admin_in()

    def _let_admin_in(self) -> None:
        everything = {"keys": "*", "channels": "*", "categories": ["+@all"]}
        with self._valkey.client() as redis:
            redis.acl_setuser("admin", enabled=True, nopass=True, **everything)

    @contextmanager
    def _config(self, name: str, value: str, before: str) -> Iterator[None]:
        self.admin.config_set(name, value)
        yield
        self.admin.config_set(name, before)

    def _is_loading(self) -> bool:
        try:
            with self._valkey.client() as redis:
                redis.ping()
        except BusyLoadingError:
            return True
        except RedisConnectionError:  # it does not listen yet
            pass
        return False

    def _is_busy(self) -> bool:
        try:
            self.admin.ping()
        except ResponseError:
            return True
        return False
