"""OpenTelemetry's own instrumentation of Celery beside us: one trace from a request to its jobs."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from celery.signals import before_task_publish, task_prerun
from opentelemetry import trace

from service.errors import JobFailedError
from service.jobs.job import Job
from service.parts import parts_of
from service.results.model import State
from tests.support import sample_tasks as sample
from tests.support import traced_tasks as traced
from tests.support.broker import MAINLY_ASYNCIO
from tests.support.serving import serving_app
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import Worker, worker_process

MODULES = "tests.support.sample_tasks,tests.support.traced_tasks"
MANY = 20  # jobs at once


@pytest.fixture
def own_spans() -> Iterator[tuple[StringIO, trace.Tracer]]:
    """The spans of the test's process, which is instrumented as a web process is."""
    written = StringIO()
    provider, instrumentor = traced.spans_to(written), traced.instrumentor()
    instrumentor.instrument(tracer_provider=provider)
    names = traced.name_by_conventions()
    yield written, provider.get_tracer("web")
    before_task_publish.disconnect(names["name_sending"])
    task_prerun.disconnect(names["name_run"])
    instrumentor.uninstrument()


async def run_traced(
    worker: Worker, tracer: trace.Tracer, *, cancels: bool
) -> list[tuple[Job[Any], str]]:
    """Jobs that have ended, each with the trace of the request that has enqueued it."""

    async def request(handle: Any, *args: object) -> tuple[Job[Any], str]:
        with tracer.start_as_current_span("request") as span:
            job = await handle.enqueue(*args)
            assert trace.get_current_span() is span
            return job, f"{span.get_span_context().trace_id:032x}"

    async with serving_app(worker, MODULES) as app:
        naps = [(traced.nap, traced.sync_nap)[number % 2] for number in range(MANY)]
        started = await asyncio.gather(*(request(nap, n) for n, nap in enumerate(naps)))
        started.append(await request(sample.retry))
        started.append(await request(sample.raise_error, "ValueError"))
        started.append(await request(traced.enqueue_another))
        if cancels:
            started.append(await request(sample.limited, False))
            cancelled = started[-1][0]

            async def runs() -> bool:
                return (await parts_of(app).store.get(cancelled.id)).state is State.STARTED

            await wait_until_async(runs, description="the job to be cancelled runs")
            await cancelled.cancel()
        for job, _ in started:
            with suppress(JobFailedError):
                await job.result(timeout=30)
    return started


def assert_named_as_the_guide_says(spans: list[dict[str, Any]]) -> None:
    """By the instrumentation: where this fails, mend the table of logging.md; by today's names."""
    old = {"messaging.message.id", "messaging.destination"}
    own = {
        "apply_async": {*old, "messaging.destination_kind"},
        "run": {*old, "messaging.conversation_id"},
    }
    types = {"apply_async": "send", "run": "process"}
    for span in spans:
        operation, _, task = span["name"].partition("/")
        if task:
            found = {k: v for k, v in span["attributes"].items() if k.startswith("messaging.")}
            added = {
                "messaging.system": "celery",
                "messaging.operation.type": types[operation],
                "messaging.operation.name": operation,
                "messaging.destination.name": "celery",
            }
            assert found.items() >= added.items()
            assert found.keys() - added.keys() == own[operation]
            assert found["messaging.destination"] == "celery"


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
async def test_a_trace_goes_from_a_request_into_its_jobs(
    valkey: Valkey, tmp_path: Path, pool: str, own_spans: tuple[StringIO, trace.Tracer]
) -> None:
    """Of many jobs at once no two mix; each span is there once, and ends however its job does."""
    valkey.flush()
    path, (written, tracer) = tmp_path / "spans", own_spans
    env = {"TRACED_SPANS": str(path), "SERVICE_LOG": "json", "SERVICE_TASK_MODULES": MODULES}
    cancels = pool == "asyncio"  # prefork ends the process, and with it what this has not told
    # Of a nap its own span and the body's; of a coroutine two children and a thread besides. Of a
    # job that is retried three, and the two of its sending; of one that enqueues another, three.
    count = MANY * 2 + MANY // 2 * 3 + 5 + 1 + 3 + cancels
    with worker_process(pool, valkey.url, tmp_path, **env) as process:
        process.wait_for_output(r"ready\.")
        worker = Worker(pool, process, valkey.url, tmp_path)
        started = await run_traced(worker, tracer, cancels=cancels)
        wait_until(
            lambda: len(path.read_text().splitlines()) >= count,
            timeout=30,
            description=f"the worker has told of {count} spans",
        )
        process.stop()
        output = process.output.splitlines()
    theirs = [json.loads(line) for line in path.read_text().splitlines()]
    spans = theirs + [json.loads(line) for line in written.getvalue().splitlines()]
    by_id = {traced.ids_of(span)[1]: span for span in spans}
    assert len(theirs) == count
    assert len(by_id) == len(spans)

    def ancestors(span: dict[str, Any]) -> list[str]:
        parent = by_id.get(span["parent_id"])
        return [] if parent is None else [parent["name"], *ancestors(parent)]

    def of_trace(trace_id: str) -> list[dict[str, Any]]:
        return [span for span in theirs if traced.ids_of(span)[0] == trace_id]

    for number, (job, trace_id) in enumerate(started[:MANY]):
        names = [f"body {number}", f"run/{job.task}"]
        if job.task == traced.nap.name:
            names += [f"child {number}"] * 2 + [f"thread {number}"]
        mine = of_trace(trace_id)
        assert Counter(span["name"] for span in mine) == Counter(names)
        for span in mine:
            line = [span["name"], *ancestors(span)]
            assert line[-3:] == [f"run/{job.task}", f"apply_async/{job.task}", "request"]
    assert_named_as_the_guide_says(spans)
    failed, parent = started[MANY + 1][1], started[MANY + 2][1]
    assert [span["status"]["status_code"] for span in of_trace(failed)] == ["ERROR"]
    assert Counter(span["name"] for span in of_trace(parent)) == Counter(
        ("run/traced.enqueue_another", "apply_async/sample.add", "run/sample.add")
    )
    log = [json.loads(line) for line in output if line.startswith("{")]
    for job, trace_id in started:
        ends = [line for line in log if line.get("job_id") == job.id and "state" in line]
        assert {line["trace_id"] for line in ends} == {trace_id}
