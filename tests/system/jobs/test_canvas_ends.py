"""What can never run any more says so: every way to end without success, in every place."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from celery import chain, chord, group
from kombu.utils.uuid import uuid
from quart import Quart, current_app
from redis import Redis

from service import enqueue, get_celery
from service.errors import UnknownJobError
from service.parts import parts_of
from service.results.model import Result
from tests.support import pool_tasks as pool
from tests.support import sample_tasks as sample
from tests.support.rabbitmq import needs_rabbitmq, rabbitmq
from tests.support.serving import serving_app
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import MODULES, Worker, running_worker

PAST: Final = 0.001  # seconds
# How a job ends without success: what it is, and what is then said of the jobs after it.
ENDS: Final[dict[str, tuple[Callable[[], Any], str]]] = {
    "cancelled waiting": (lambda: sample.add.si(1, 1), "REVOKED"),
    "cancelled running": (pool.sleep_long.si, "REVOKED"),
    "expired": (lambda: sample.add.si(1, 1).set(expires=PAST), "REVOKED"),
    "ignored": (pool.ignored.si, "REVOKED"),
    "rejected": (pool.rejected.si, "FAILURE"),
    "dead letter": (lambda: get_celery(current_app).signature("sample.unknown"), "FAILURE"),
    "failed": (lambda: sample.raise_error_async.si("ValueError"), "FAILURE"),
}


class Maker:
    """Makes the other jobs of a canvas, and knows their ids."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def of(self, signature: Any) -> Any:
        self.ids.append(uuid())
        return signature.set(task_id=self.ids[-1])

    def ok(self) -> Any:
        return self.of(sample.add.si(1, 1))

    def total(self) -> Any:
        return self.of(sample.total.s())

    def body(self) -> Any:
        return self.total().on_error(sample.errback.s())


# Where in a canvas the job `x` is.
PLACES: Final[dict[str, Callable[[Any, Maker], Any]]] = {
    "first of a chain": lambda x, m: chain(x, m.ok(), m.ok()),
    "group": lambda x, m: group(x, m.ok()),
    "chain in a group": lambda x, m: group(chain(x, m.ok(), m.ok()), m.ok()),
    "before a group": lambda x, m: chain(x, group(m.ok(), m.ok())),
    "before a chord": lambda x, m: chain(
        x, group(m.ok(), chain(m.ok(), m.ok())), m.total(), m.ok()
    ),
    "header": lambda x, m: chain(chord([m.ok(), x], m.body()), m.ok()),
    "header of a group": lambda x, m: chord([m.ok(), x], group(m.ok(), m.ok())),
    "header of a chord": lambda x, m: chord([m.ok(), x], chord([m.ok(), m.ok()], m.total())),
    "chain in a header": lambda x, m: chord([chain(x, m.ok(), m.ok()), m.ok()], m.body()),
    "chord in a header": lambda x, m: chord([chord([m.ok(), x], m.body()), m.ok()], m.body()),
    "nested twice": lambda x, m: chain(
        chord(
            [chord([chord([m.ok(), x], m.body()), m.ok()], m.body()), chain(m.ok(), m.ok())],
            m.body(),
        ),
        m.ok(),
    ),
}
# The same where another job sends it, which passes a gate first.
LATER: Final[dict[str, Callable[[Any, Maker, Any], Any]]] = {
    "middle of a chain": lambda x, m, gate: chain(gate, x, m.ok()),
    "body": lambda x, m, gate: chain(chord([gate, m.ok()], x), m.ok()),
    "body in a header": lambda x, m, gate: chord([chord([gate, m.ok()], x), m.ok()], m.body()),
}
WITH_ERRBACKS: Final = {
    *("header", "chain in a header", "chord in a header", "body in a header", "nested twice")
}


@dataclass
class Cell:
    """One canvas of the table: its job that ends without success, and all jobs that it has."""

    end: str
    place: str
    job_id: str
    ids: list[str]
    results: dict[str, Result] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.end}, {self.place}"

    async def read(self, app: Quart) -> list[str]:
        """The jobs that are still to end."""
        waiting = [job_id for job_id in self.ids if job_id not in self.results]
        for job_id in waiting:
            with suppress(UnknownJobError):  # some are unknown until they are sent
                result = await parts_of(app).store.get(job_id)
                if result.ready:
                    self.results[job_id] = result
        return [f"{self}: {job_id}" for job_id in waiting if job_id not in self.results]


class Table:
    """Every way to end in every place, sent to one worker."""

    def __init__(self, app: Quart, worker: Worker) -> None:
        self.cells: list[Cell] = []
        self._app = app
        self._worker = worker
        self._gate = uuid()

    async def send(self, *ends: str) -> None:
        """Enqueue the rows of some ways to end, and cancel the jobs in those that are for it."""
        for end in ends:
            row = [await self._sent(end, place) for place in (*PLACES, *LATER)]
            self.cells += row
            if end == ends[0]:
                self._worker.open_gate(self._gate)
            if end == "cancelled running":
                for cell in row:
                    self._worker.wait_for_note(f"started {cell.job_id}")
                    await self._cancel(cell.job_id)

    async def all_end(self) -> None:
        """Wait until no job waits any more."""

        async def waiting() -> list[str]:
            return [text for cell in self.cells for text in await cell.read(self._app)]

        async def is_none() -> bool:
            return not await waiting()

        with suppress(AssertionError):
            await wait_until_async(is_none, timeout=30, description="all have ended")
        assert await waiting() == []

    async def _sent(self, end: str, place: str) -> Cell:
        """Enqueue one canvas. A job that is to be cancelled while it waits is due in an hour."""
        maker = Maker()
        job = maker.of(ENDS[end][0]()).on_error(sample.errback.s())
        if place in LATER:
            gate = maker.of(pool.wait_at_gate.si(self._gate))
            canvas = LATER[place](job, maker, gate)
        else:
            if end == "cancelled waiting":
                job.set(countdown=3600)
            canvas = PLACES[place](job, maker)
        await enqueue(canvas)
        if end == "cancelled waiting":
            await self._cancel(job.id)
        return Cell(end, place, job.id, maker.ids)

    async def _cancel(self, job_id: str) -> None:
        response = await self._app.test_client().delete(f"/result/{job_id}")
        assert response.status_code in {200, 202}

    def errors(self) -> list[str]:
        """What does not end as it should."""
        found = []
        for cell in self.cells:
            state = ENDS[cell.end][1]
            for result in cell.results.values():
                is_first = result.id == cell.job_id
                error = result.error.message if result.error else ""
                if (is_first or not result.successful) and result.state != state:
                    found.append(f"{cell}: {result.task} {result.id} is {result.state}")
                elif not (
                    is_first or result.successful or cell.job_id in error or state != "REVOKED"
                ):
                    found.append(f"{cell}: {result.task} {result.id} has the error {error!r}")
        return found

    def errbacks(self) -> dict[str, str]:
        """The jobs whose errbacks are to be called, by id, and where they stand."""
        return {
            result.id: f"{cell}: {result.task}"
            for cell in self.cells
            for result in cell.results.values()
            if result.id == cell.job_id
            or (
                result.task == "sample.total"
                and not result.successful
                and cell.place in WITH_ERRBACKS
            )
        }


async def check_table(worker: Worker, *ends: str, **settings: str) -> None:
    async with serving_app(worker, MODULES, **settings) as app:
        table = Table(app, worker)
        await table.send(*ends)
        await table.all_end()
    assert table.errors() == []
    expected = table.errbacks()
    with suppress(AssertionError):  # the next line says which
        wait_until(
            lambda: expected.keys() <= {*called(worker)}, timeout=45, description="all are called"
        )
    calls = Counter(called(worker))
    assert {where: calls[job_id] for job_id, where in expected.items() if calls[job_id] != 1} == {}


def called(worker: Worker) -> list[str]:
    """The jobs whose errbacks were called."""
    return [line.split()[1] for line in worker.notes if line.startswith("errback ")]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("shared_worker", ["asyncio", "prefork", "threads", "solo"], indirect=True)
async def test_every_job_that_can_never_run_ends(shared_worker: Worker) -> None:
    """With the job that it waited for, and errbacks are called once."""
    # Celery's threads and solo pools cannot stop what runs.
    stops = shared_worker.pool in {"asyncio", "prefork"}
    await check_table(shared_worker, *(end for end in ENDS if stops or end != "cancelled running"))


@pytest.mark.timeout(180)
async def test_it_ends_over_kombus_own_redis_transport(tmp_path: Path) -> None:
    """Where scheduled jobs wait in the worker."""
    many = ("--concurrency", "600")
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_LEASE": "0"}
    with running_worker("asyncio", tmp_path, *many, **env) as worker:
        await check_table(worker, *ENDS)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "pool",
    [
        "asyncio",
        *(pytest.param(p, marks=pytest.mark.chaos) for p in ("prefork", "threads", "solo")),
    ],
)
async def test_it_ends_where_the_broker_is_another_redis(
    tmp_path: Path, redis_url: str, pool: str
) -> None:
    """Nothing there is one step: a message and the record of its job are on two servers."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_CELERY__BROKER_URL": redis_url}
    many = ("--concurrency", "600") if pool == "asyncio" else ()
    with running_worker(pool, tmp_path, *many, **env) as worker:
        stops = pool in {"asyncio", "prefork"}
        ends = [end for end in ENDS if stops or end != "cancelled running"]
        await check_table(worker, *ends, SERVICE_CELERY__BROKER_URL=redis_url)


@needs_rabbitmq
@pytest.mark.timeout(180)
async def test_it_ends_over_rabbitmq(tmp_path: Path) -> None:
    """RabbitMQ itself gives up what has expired, and keeps what is scheduled until it is due."""
    many = ("--concurrency", "600")
    (tmp_path / "rabbitmq").mkdir()
    with rabbitmq(tmp_path / "rabbitmq") as (_, broker):
        env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_CELERY__BROKER_URL": broker}
        with running_worker("asyncio", tmp_path, *many, **env) as worker:
            settings = {"SERVICE_CELERY__BROKER_URL": broker}
            ends = [end for end in ENDS if end != "cancelled waiting"]
            await check_table(worker, *ends, **settings)


@pytest.mark.parametrize("shared_worker", ["asyncio", "prefork"], indirect=True)
async def test_a_body_that_was_ended_and_sent_calls_its_errbacks_once(
    shared_worker: Worker,
) -> None:
    """A copy of a part of the header may send it while another one ends it."""
    body_id = uuid()
    async with serving_app(shared_worker, MODULES) as app:
        errback = sample.errback.s()
        body = sample.total.s().set(task_id=body_id).on_error(errback)
        await enqueue(chord([pool.ignored.si(), sample.add.si(1, 1)], body))
        assert (await parts_of(app).watcher.wait(body_id, 45)).state == "REVOKED"
        wait_until(lambda: body_id in called(shared_worker), description="the errback is called")
        # By Celery's own means: ours accept no id twice.
        again = sample.total.s([1]).set(task_id=body_id).on_error(errback)
        await asyncio.to_thread(again.apply_async)
        shared_worker.process.wait_for_output(rf"\[{body_id}\] ignored")
    assert called(shared_worker).count(body_id) == 1


@pytest.mark.parametrize("shared_worker", ["prefork"], indirect=True)
async def test_errbacks_are_called_although_their_job_is_cancelled_meanwhile(
    shared_worker: Worker,
) -> None:
    """Its process, which has claimed them, is told to end; whoever told it finds them claimed."""
    async with serving_app(shared_worker, MODULES) as app:
        failing = sample.raise_error_async.si("ValueError").on_error(sample.errback_at_gate.s())
        job: Any = await enqueue(failing)
        shared_worker.wait_for_note(f"errback at gate {job.id}")
        get_celery(app).control.revoke(job.id, terminate=True)
        shared_worker.process.wait_for_output(f"Terminating {job.id}")
        shared_worker.open_gate(f"errback {job.id}")
        shared_worker.wait_for_note(f"errback left {job.id}")


@pytest.mark.parametrize(
    "task",
    [
        sample.hang,
        pytest.param(sample.end_process, marks=pytest.mark.chaos),
        pytest.param(pool.sleep_long, marks=pytest.mark.chaos),
    ],
    ids=["hard-limit", "lost", "cancelled"],
)
@pytest.mark.parametrize("dies", [False, pytest.param(True, marks=pytest.mark.chaos)])
async def test_who_sees_that_preforks_parent_ended_a_body_can_rely_on_its_errbacks(
    tmp_path: Path, task: Any, *, dies: bool
) -> None:
    """A child calls them, and ends the body after it; if it dies meanwhile, the parent does."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_MAX_DELIVERIES": "1"}
    with running_worker("prefork", tmp_path, **env) as worker:
        async with serving_app(worker, MODULES) as app:
            errback = sample.errback_that_dies_once if dies else sample.errback_at_gate
            ends = task.si().set(task_id=uuid())
            body = sample.total.s().on_error(errback.s())
            job: Any = await enqueue(chord([sample.add.si(1, 1), ends], body))
            if task is pool.sleep_long:
                worker.wait_for_note(f"started {ends.id}")
                await app.test_client().delete(f"/result/{ends.id}")
            if not dies:
                worker.wait_for_note(f"errback at gate {job.id}")
                assert not (await parts_of(app).store.get(job.id)).ready
                worker.open_gate(f"errback {job.id}")
            state = "REVOKED" if task is pool.sleep_long else "FAILURE"
            assert (await parts_of(app).watcher.wait(job.id, 45)).state == state
            assert dies or f"errback left {job.id}" in worker.notes
            with Redis.from_url(worker.redis_url) as redis:
                wait_until(
                    lambda: not redis.exists("celery", "unacked"), description="all is acknowledged"
                )


@pytest.mark.parametrize("shared_worker", ["prefork"], indirect=True)
@pytest.mark.parametrize("last", ["failed", "succeeds"])
async def test_a_body_ends_although_the_process_died_that_was_to_end_it(
    shared_worker: Worker, last: str
) -> None:
    """In an errback, after it had counted the last part of the header."""
    gate = uuid()
    async with serving_app(shared_worker, MODULES) as app:
        fails, succeeds = sample.raise_error_async.si("ValueError"), sample.add.si(1, 1)
        first, second = (succeeds, fails) if last == "failed" else (fails, succeeds)
        header = [first.set(task_id=uuid()), chain(pool.wait_at_gate.si(gate), second)]
        body = sample.total.s().on_error(sample.errback_that_dies_once.s())
        job: Any = await enqueue(chord(header, body))
        await parts_of(app).watcher.wait(first.id, 45)
        shared_worker.open_gate(gate)
        assert (await parts_of(app).watcher.wait(job.id, 45)).state == "FAILURE"
    shared_worker.wait_for_note(f"errback {job.id}")  # prefork's parent does not wait for it
