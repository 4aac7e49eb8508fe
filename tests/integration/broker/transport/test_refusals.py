"""Redis answers, but refuses, for a while: the worker lives, waits, and serves again."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from kombu import Connection

from tests.support.broker import LEASED, MAINLY_ASYNCIO, Bench, ready
from tests.support.process import Process
from tests.support.refusals import Refusals
from tests.support.valkey import Valkey
from tests.support.wait import let_pass

_LASTS, _LASTS_LONG = 2.0, 60.0  # seconds of a refusal
_KINDS = (
    *("readonly", "oom", "noreplicas", "misconf", "noauth", "noperm", "nopublish"),
    *("busy", "loading"),
)
_LONG = ("readonly", "oom", "noeval")
_AT_START = ("readonly", "oom", "noreplicas", "misconf", "noauth", "busy")


@dataclass(frozen=True)
class Scene:
    """One worker, which goes through one refusal after the other."""

    bench: Bench
    worker: Process
    refusals: Refusals


@pytest.fixture(scope="module", params=MAINLY_ASYNCIO)
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A worker with Celery's defaults on a server that refuses when it is told to."""
    folder: Path = tmp_path_factory.mktemp("refusals")
    (folder / "valkey").mkdir()
    durable = {"appendonly": "yes", "appendfsync": "always"}
    with (
        Valkey(folder / "valkey", durable) as valkey,
        Bench(valkey.url, folder) as bench,
        bench.worker(pool=request.param, concurrency=8, talks=True) as worker,
    ):
        ready(worker)
        bench.wait_for(bench.send("noop"))  # no thread is the first test's then
        yield Scene(bench, worker, Refusals(valkey))


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("is_cut", [False, True], ids=["idle", "under-load-and-cut"])
def test_a_worker_outlives_a_refusal(scene: Scene, kind: str, is_cut: bool) -> None:
    """It ended at READONLY, and at OOM when connections were cut: reconnecting writes."""
    _is_refused(scene, kind, is_cut=is_cut, seconds=_LASTS)


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", _LONG)
@pytest.mark.parametrize("is_cut", [False, True], ids=["idle", "under-load-and-cut"])
def test_a_worker_outlives_a_long_refusal(scene: Scene, kind: str, is_cut: bool) -> None:
    """Also that of scripts alone: all else is allowed, so that a worker can connect."""
    _is_refused(scene, kind, is_cut=is_cut, seconds=_LASTS_LONG)


@pytest.mark.parametrize(
    ("kind", "pool"),
    [
        ("nopublish", "asyncio"),
        pytest.param("nopublish", "prefork", marks=pytest.mark.chaos),
        *(pytest.param(kind, "asyncio", marks=pytest.mark.chaos) for kind in _AT_START),
    ],
)
def test_a_worker_that_starts_meanwhile_serves_afterwards(
    own_bench: Bench, own_valkey: Valkey, kind: str, pool: str
) -> None:
    """Without the right to publish it ended: its first broadcast was refused."""
    bench = own_bench
    with ExitStack() as stack:
        with getattr(Refusals(own_valkey), kind)():
            worker = stack.enter_context(bench.worker(pool=pool, talks=True))
            worker.wait_for_output(r"Cannot connect to redis.*\(4/None\)")
            assert worker.returncode is None
        bench.wait_for(bench.send("work", "afterwards"))
        assert worker.output.count("Cannot connect") < 10  # it pauses for longer and longer


@pytest.mark.parametrize("rights", ["-publish", "resetchannels"])
def test_who_never_could_publish_is_served(own_valkey: Valkey, rights: str) -> None:
    """A producer needs no such right, nor a worker that keeps to itself."""
    with own_valkey.client() as redis:
        redis.execute_command("ACL", "SETUSER", "default", rights)
    for _ in range(2):
        with Connection(own_valkey.url, transport=LEASED, connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=1)


def _is_refused(scene: Scene, kind: str, *, is_cut: bool, seconds: float) -> None:
    bench, worker, label = scene.bench, scene.worker, f"{kind}-{is_cut}-{seconds:g}"
    jobs: dict[str, str] = {}
    if is_cut:
        jobs |= {f"{label}{i}": bench.send("work", f"{label}{i}", 0.2 * i) for i in range(8)}
        bench.wait_for_note("start", f"{label}7")
    seen = len(worker.output)
    with getattr(scene.refusals, kind)():
        if is_cut and kind not in {"busy", "loading"}:  # which takes no order; which has cut them
            scene.refusals.cut()
        let_pass(seconds)
        assert worker.returncode is None, worker.tail
    jobs[label] = bench.send("work", label)
    for job in jobs.values():
        bench.wait_for(job, timeout=40)
    bench.wait_until_empty()
    assert {bench.count("end", name) for name in jobs} == {1}
    assert worker.returncode is None
    # It pauses for longer and longer: else it would have tried hundreds of times.
    assert worker.output[seen:].count("\n") < 150
