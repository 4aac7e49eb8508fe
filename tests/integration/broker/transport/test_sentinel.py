"""The master dies, a replica takes over, and work goes on by itself."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import RedisError
from redis.sentinel import Sentinel

from service import create_app
from service.dev.valkey import valkey_binary
from service.errors import ConfigurationError
from service.tasks.demo import my_add
from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.enqueuing import enqueue_in_the_end
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async

_JOBS: Final = 2000
_CALLERS: Final = 4


class Sentinels:
    """A master, a replica and three sentinels."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        folders = [folder / name for name in ("master", "replica")]
        for path in folders:
            path.mkdir()
        config = {"appendonly": "yes", "repl-diskless-sync-delay": "0"}
        self.master = stack.enter_context(Valkey(folders[0], config))
        follow = {"replicaof": f"127.0.0.1 {self.master.port}"}
        self.replica = stack.enter_context(Valkey(folders[1], {**config, **follow}))
        self.ports = [self._start(stack, folder / f"sentinel{i}") for i in range(3)]

    def _start(self, stack: ExitStack, folder: Path) -> int:
        folder.mkdir()
        port = free_port()
        (folder / "sentinel.conf").write_text(
            f"bind 127.0.0.1\nport {port}\ndir {folder}\n"
            f"sentinel monitor main 127.0.0.1 {self.master.port} 2\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        command = [str(valkey_binary()), str(folder / "sentinel.conf"), "--sentinel"]
        stack.enter_context(Process(command, name=f"sentinel {port}"))
        return port

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """A client of whoever is the master."""
        known: Any = Sentinel([("127.0.0.1", port) for port in self.ports])  # type: ignore[no-untyped-call]  # by redis-py
        try:
            with known.master_for("main", decode_responses=True, socket_timeout=5) as client:
                yield client
        finally:
            for sentinel in known.sentinels:
                sentinel.close()

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://127.0.0.1:{port}/0" for port in self.ports)

    def cut_replication(self) -> None:
        """Have the replica lose its connection to the master, and make no other one."""
        with Redis(port=self.replica.port, socket_timeout=5) as replica:
            replica.config_set("masteruser", "nobody", "masterauth", "nothing")
        with Redis(port=self.master.port, socket_timeout=5) as master:
            execute: Any = master.execute_command
            execute("CLIENT", "KILL", "TYPE", "replica")

    def name(self, port: int) -> bool:
        """Whether all sentinels say that this is the master's port."""
        told = []
        for sentinel_port in self.ports:
            with Redis(port=sentinel_port, socket_timeout=5) as sentinel:
                told.append(sentinel.sentinel_get_master_addr_by_name("main")[1])
        return set(told) == {port}

    def wait_until_watched(self) -> None:
        def known() -> bool:
            answers = []
            for port in self.ports:
                with Redis(port=port, socket_timeout=5) as sentinel:
                    try:
                        answers.append(sentinel.sentinel_master("main"))
                    except (RedisError, OSError):
                        return False  # not up yet
            return all(
                int(a["num-other-sentinels"]) == 2 and int(a["num-slaves"]) == 1 for a in answers
            )

        wait_until(known, description="the sentinels know each other and the replica")


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    """Five real servers."""
    with ExitStack() as stack:
        found = Sentinels(stack, tmp_path)
        found.wait_until_watched()
        yield found


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
def test_work_goes_on_when_the_master_dies(sentinels: Sentinels, tmp_path: Path, pool: str) -> None:
    """Jobs, results and whoever waits for them: nobody restarts anything."""
    with sentinels.client() as client, Bench(sentinels.url, tmp_path, redis=client) as bench:
        bench.options["master_name"] = "main"
        with bench.worker(pool=pool, concurrency=1) as worker:
            ready(worker)
            assert bench.web.result("faults.work", "before") == "before"
            running = bench.send("work", "running", 3.0)
            bench.wait_for_note("start", "running")
            with Redis(port=sentinels.replica.port) as replica:
                wait_until(lambda: replica.hlen("unacked") == 1, description="it is replicated")
                sentinels.master.kill()
                after = bench.send("work", "after")
                wait_until(
                    lambda: (
                        replica.info("replication")["role"] == "master"
                        and sentinels.name(sentinels.replica.port)
                    ),
                    timeout=30,
                    description="the replica is the master, and all know it",
                )
                bench.wait_for(running)
                bench.wait_for(after)
                assert bench.web.result("faults.work", "late") == "late"
                wait_until(lambda: not replica.exists("unacked"), description="nothing is held")
            assert bench.count("start", "running") == 1
            assert worker.returncode is None
            assert "sentinel:SentinelTransport" not in worker.output


@pytest.mark.chaos
@pytest.mark.parametrize("replicas", [0, 1])
async def test_min_replicas_keeps_what_was_accepted_before_a_failover(
    sentinels: Sentinels, replicas: int
) -> None:
    """The replica has lagged behind for half a second when the master dies: it never hears more."""
    options = {"master_name": "main"}
    settings = {
        "SERVICE_REDIS_URL": sentinels.url,
        "SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS": json.dumps(options),
        "SERVICE_MIN_REPLICAS": str(replicas),
        "SERVICE_ENQUEUE_TIMEOUT": "0.5",
    }
    app = create_app(settings)
    accepted: list[str] = []

    async def enqueue_many(name: str) -> None:
        for number in range(_JOBS // _CALLERS):
            accepted.append((await enqueue_in_the_end(my_add, 1, 2, job_id=f"{name}-{number}")).id)
            await asyncio.sleep(0.005)

    async with app.test_app(), app.app_context():
        callers = [asyncio.create_task(enqueue_many(f"caller-{n}")) for n in range(_CALLERS)]
        await wait_until_async(lambda: len(accepted) > _JOBS // 4, description="jobs are accepted")
        sentinels.cut_replication()
        await asyncio.sleep(0.5)  # what the replica lacks
        sentinels.master.kill()
        await wait_until_async(
            lambda: asyncio.to_thread(sentinels.name, sentinels.replica.port),
            description="the replica is the master",
        )
        await asyncio.to_thread(sentinels.master.start)  # as the replica of the other
        await asyncio.gather(*callers)
    with sentinels.client() as client:
        lost = [job_id for job_id in accepted if not client.exists(f"celery-task-meta-{job_id}")]
        waiting = client.llen("celery")
    print(f"{replicas} replicas: {len(accepted)} accepted, {len(lost)} lost")
    assert len(accepted) == _JOBS
    assert waiting == _JOBS - len(lost)
    assert bool(lost) is not bool(replicas)


def test_sentinels_without_a_masters_name_are_refused_in_a_sentence(sentinels: Sentinels) -> None:
    """Nobody can guess it."""
    with pytest.raises(ConfigurationError, match="needs the name of the master"):
        create_app({"SERVICE_REDIS_URL": sentinels.url})
