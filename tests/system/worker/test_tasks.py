"""What a task sees and may do, the same under every pool."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import chain, chord
from quart import Quart

from service import enqueue, get_celery
from service.errors import JobFailedError, UnknownJobError
from service.jobs.handle import TaskHandle
from service.jobs.job import Job
from service.parts import parts_of
from service.results.decoding import record_fields
from service.results.model import Result, State
from service.tasks import demo
from tests.support import sample_tasks as sample
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import Worker

POOLS = ["asyncio", "prefork", "threads", "solo"]
TIMEOUT = 45.0

Handle = TaskHandle[..., Any, Any]


pytestmark = pytest.mark.parametrize("shared_worker", POOLS, indirect=True)


@pytest.fixture
def worker(shared_worker: Worker) -> Worker:
    return shared_worker


@pytest.fixture
async def app(worker: Worker) -> AsyncIterator[Quart]:
    """An app like the web side's, in whose context a test enqueues."""
    async with serving_app(worker, "tests.support.sample_tasks") as app:
        yield app


async def value(job: Job[Any]) -> Any:
    return await job.result(timeout=TIMEOUT)


async def ended(app: Quart, job_id: str) -> Result:
    """The job's result, also of one (the body of a chord) that Celery has yet to send."""

    async def known() -> bool:
        with suppress(UnknownJobError):
            return bool(await parts_of(app).store.get(job_id))
        return False

    await wait_until_async(known, description=f"a record of {job_id}")
    return await parts_of(app).watcher.wait(job_id, TIMEOUT)


@pytest.mark.parametrize(
    ("handle", "args", "expected"),
    [
        (demo.my_add, (1, 2), 3),
        (demo.count_slowly, (3, 0.01), 3),
        (demo.find_primes, (1000,), 168),
        (sample.add, (2, 3), 5),
    ],
)
async def test_a_job_gives_what_the_function_returns(
    app: Quart, handle: Handle, args: tuple[Any, ...], expected: int
) -> None:
    """Sync or async, with any pool."""
    assert await value(await handle.enqueue(*args)) == expected


async def test_a_value_is_of_the_type_that_the_function_returns(app: Quart) -> None:
    """Though JSON has no dates."""
    assert await value(await sample.moment.enqueue()) == datetime(2026, 1, 2, tzinfo=UTC)


async def test_my_add_logs_the_sum_and_the_configured_value(app: Quart, worker: Worker) -> None:
    """It is how an operator sees that tasks run inside the app context."""
    await value(await demo.my_add.enqueue(1, 2))
    worker.process.wait_for_output(r"1 \+ 2 = 3")
    worker.process.wait_for_output("TEST_FOR_APP_CONTEXT is 'of the sample'")


@pytest.mark.parametrize(
    ("handle", "whos"),
    [(sample.log_sync, ["a thread"]), (sample.log_async, ["a child task", "a thread", "a body"])],
)
async def test_each_log_record_of_a_body_has_its_job(
    app: Quart, worker: Worker, handle: Handle, whos: list[str]
) -> None:
    """By any logger, in the standard format and in one of the user's; `extra` is as before."""
    job = await handle.enqueue()
    await value(job)
    for who in whos:
        worker.process.wait_for_output(rf"WARNING/\S+ {handle.name}\[{job.id}\]: logged by {who}$")
        worker.process.wait_for_output(rf"^own logged by {who} {handle.name} {job.id}$")


@pytest.mark.parametrize("handle", [sample.look, sample.look_async, sample.look_behind_decorator])
async def test_a_body_sees_its_app_and_its_own_job(app: Quart, handle: Handle) -> None:
    """`g` is new for each job, although the process or the thread is the same."""
    jobs = [await handle.enqueue() for _ in range(8)]
    for job in jobs:
        assert await value(job) == {
            "request": job.id,
            "current_task": job.id,
            "current_job": job.id,
            "task": handle.name,
            "config": "of the sample",
            "seen_before": None,
        }


async def test_children_of_a_body_see_its_job(app: Quart) -> None:
    """Child asyncio tasks and threads are where Celery's own stacks are empty."""
    jobs = [await sample.look_from_children.enqueue(0.01) for _ in range(8)]
    for job in jobs:
        assert set(await value(job)) == {job.id}


@pytest.mark.parametrize(
    "handle", [sample.retry, sample.retry_async, sample.autoretry, sample.autoretry_async]
)
async def test_retries_work_from_both_kinds_of_body(app: Quart, handle: Handle) -> None:
    """Celery's autoretry knows nothing of coroutines; the Task base makes it see their errors."""
    job = await handle.options(tags=["import", "ada"]).enqueue()
    assert await value(job) == 2
    record = record_fields((await parts_of(app).store.read(job.id)).data)
    assert (record["tags"], record["queue"]) == (["import", "ada"], "celery")


@pytest.mark.parametrize("handle", [sample.canvas, sample.canvas_async])
@pytest.mark.parametrize(
    ("kind", "expected"), [("chain", 6), ("chord", 6), ("group", 6), ("delay", 6)]
)
async def test_a_body_may_send_any_canvas(
    app: Quart, handle: Handle, kind: str, expected: int
) -> None:
    """Celery's own synchronous calls work inside of coroutines too."""
    sent = await value(await handle.enqueue(kind))
    assert (await ended(app, sent)).result == expected


async def test_a_body_may_enqueue(app: Quart) -> None:
    """`await handle.enqueue()` is the same in a task as in a request."""
    sent = await value(await sample.enqueue_another.enqueue())
    assert (await ended(app, sent)).result == 9


async def test_what_an_owned_job_sends_is_the_same_owners(app: Quart) -> None:
    """Its retries, what follows it in a canvas, and what its body starts."""
    owned: list[str] = []
    for kind in ("chain", "chord", "delay"):
        job = await sample.canvas_async.options(owner="ada").enqueue(kind)
        owned += [job.id, await value(job)]
    job = await sample.enqueue_another.options(owner="ada").enqueue()
    owned += [job.id, await value(job)]
    retried = await sample.retry.options(owner="ada").enqueue()
    assert await value(retried) == 2
    parts: Any = chord([sample.add.s(1, 2), sample.add_async.s(3, 4)], sample.total.s())
    last = await enqueue(parts | sample.add.s(1), owner="ada")
    assert isinstance(last, Job)
    for job_id in (*owned, retried.id, last.id):
        assert ((await ended(app, job_id)).owner, job_id) == ("ada", job_id)
    unknown = get_celery(app).send_task("sample.no_such_task", headers={"owner": "ada"})
    result = await ended(app, unknown.id)
    assert (result.state, result.owner) == (State.FAILURE, "ada")


async def test_a_stock_client_reads_the_result(app: Quart) -> None:
    """`AsyncResult.get` is what other Celery programs use."""
    result = get_celery(app).send_task("sample.add", (20, 22))
    await ended(app, result.id)
    assert result.get(timeout=TIMEOUT) == 42


@pytest.mark.parametrize("handle", [sample.raise_error, sample.raise_error_async])
@pytest.mark.parametrize(
    "name",
    [
        *("MemoryError", "SystemExit", "KeyboardInterrupt"),
        *("CancelledError", "GeneratorExit", "BaseException"),
    ],
)
async def test_an_error_that_ends_a_stock_worker_ends_only_its_job(
    app: Quart, worker: Worker, handle: Handle, name: str
) -> None:
    """One MemoryError takes down every stock worker, one after the other."""
    with pytest.raises(JobFailedError) as caught:
        await value(await handle.enqueue(name))
    assert caught.value.type == "TaskAbortedError"
    assert name in caught.value.message
    assert worker.process.returncode is None
    assert await value(await sample.add.enqueue(1, 1)) == 2


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
async def test_an_error_of_a_child_task_ends_only_its_job(
    app: Quart, worker: Worker, name: str
) -> None:
    """asyncio lets these two out of the event loop, which has to go on."""
    with pytest.raises(JobFailedError):
        await value(await sample.child_raises.enqueue(name))
    assert await value(await sample.add_async.enqueue(1, 1)) == 2


async def test_an_ordinary_error_is_told_by_type_and_message(app: Quart, worker: Worker) -> None:
    """And teardown functions were given it."""
    result = await ended(app, (await sample.raise_error_async.enqueue("ValueError")).id)
    assert result.state is State.FAILURE
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ValueError", "plain, 7")
    worker.wait_for_note("teardown ValueError")


@pytest.mark.parametrize(
    ("ending", "hooks"),
    [
        ("success", ["before_start", "on_success", "after_return"]),
        ("failure", ["before_start", "on_failure", "after_return"]),
        ("retry", ["before_start", "on_retry", "before_start", "on_success", "after_return"]),
    ],
)
async def test_hooks_run_in_an_app_context(
    app: Quart, worker: Worker, ending: str, hooks: list[str]
) -> None:
    """All five of Celery's. (A retry may have ended before `on_retry` of the first run.)"""
    job = await sample.hooked.enqueue(ending)
    await ended(app, job.id)
    for hook in hooks:
        worker.wait_for_note(f"{hook} {job.id} of the sample")
    noted = [line for line in worker.notes if job.id in line]
    expected = [f"{hook} {job.id} of the sample" for hook in hooks]
    assert sorted(noted) == sorted(expected)
    if ending != "retry":
        assert noted == expected


ERRBACKS = [(sample.errback, "thread"), (sample.errback_async, "loop")]


@pytest.mark.parametrize("handle", [sample.raise_error, sample.raise_error_async])
@pytest.mark.parametrize(("errback", "thread"), ERRBACKS)
async def test_an_errback_runs_as_a_body_does(
    app: Quart, worker: Worker, handle: Handle, errback: Handle, thread: str
) -> None:
    """Celery calls one that takes request, error and traceback, rather than send it as a job."""
    sent = handle.apply_async(("ValueError",), link_error=errback.s())
    await ended(app, sent.id)
    worker.wait_for_note(
        f"{errback.name.removeprefix('sample.')} {sent.id} {sent.id} {sent.id} {handle.name}"
        f" ValueError of the sample {thread}"
    )


@pytest.mark.parametrize(("errback", "thread"), ERRBACKS)
async def test_an_errback_of_a_chord_runs_as_a_body_does(
    app: Quart, worker: Worker, errback: Handle, thread: str
) -> None:
    """The failed job is the chord's own, which is its body: it never ran."""
    header = [sample.add.s(1, 2), sample.raise_error_async.s("ValueError")]
    sent = chord(header, sample.total.s().on_error(errback.s())).apply_async()
    assert (await ended(app, sent.id)).state is State.FAILURE
    worker.wait_for_note(
        f"{errback.name.removeprefix('sample.')} {sent.id} {sent.id} {sent.id} sample.total"
        f" ChordError of the sample {thread}"
    )


async def test_who_sees_that_a_body_failed_can_rely_on_its_errbacks(
    app: Quart, worker: Worker
) -> None:
    """They were called, and those that were sent as jobs are its children."""
    header = [sample.add.s(1, 2), sample.raise_error_async.s("ValueError")]
    body = sample.total.s().on_error(sample.errback_at_gate.s())
    sent = chord(header, body.on_error(sample.leave_note.si("as a job"))).apply_async()
    worker.wait_for_note(f"errback at gate {sent.id}")
    with suppress(UnknownJobError):
        assert not (await parts_of(app).store.get(sent.id)).ready
    worker.open_gate(f"errback {sent.id}")
    assert (await ended(app, sent.id)).state is State.FAILURE
    assert f"errback left {sent.id}" in worker.notes
    children: Any = get_celery(app).AsyncResult(sent.id).children
    assert len(children) == 1
    assert (await ended(app, children[0].results[0].id)).successful


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("weigh", "7 kg of the sample thread;"),
        ("weigh_async", "7 kg of the sample loop;"),
        ("weigh_twice", "7 kg of the sample loop;" * 2),
        ("weigh_twice_after_super", "7 kg of the sample thread;" * 2),
        ("registered", "7 kg of the sample loop;"),
    ],
)
async def test_a_task_class_based_on_celerys_own_does_as_ours(
    app: Quart, worker: Worker, name: str, expected: str
) -> None:
    """With its attributes, its hooks and its `__call__`: that is how other programs have theirs."""
    sent = get_celery(app).send_task(f"sample.{name}", (7,))
    assert (await ended(app, sent.id)).result == expected
    worker.wait_for_note(f"on_success {sent.id} of the sample")


@pytest.mark.parametrize("handle", [sample.progress, sample.progress_async])
async def test_the_last_report_is_seen_and_then_the_result(
    app: Quart, worker: Worker, handle: Handle
) -> None:
    """A thousand reports in a tight loop become a few writes, never without the last."""
    job = await handle.enqueue(1000)

    async def last_report() -> bool:
        progress = (await parts_of(app).store.get(job.id)).progress
        return progress is not None and progress.current == progress.total == 1000

    await wait_until_async(last_report, description="the report of step 1000")
    worker.open_gate(job.id)
    assert await value(job) == "done"


async def test_a_result_tells_the_whole_story(app: Quart) -> None:
    """The task's name and the three times survive from the QUEUED record to the last."""
    job = await sample.add.enqueue(1, 2)
    result = await ended(app, job.id)
    assert result.task == "sample.add"
    times = [result.queued_at, result.started_at, result.finished_at]
    assert all(isinstance(time, datetime) for time in times)
    assert times == sorted(time for time in times if time)


async def test_a_job_whose_result_is_ignored_is_known_to_have_ended(app: Quart) -> None:
    """Else its id, which was handed out, would be QUEUED until it expires."""
    result = await ended(app, (await sample.ignored.enqueue()).id)
    assert (result.state, result.result) == (State.SUCCESS, None)
    failed = await ended(app, (await sample.ignored.enqueue(fails=True)).id)
    assert failed.error is not None
    assert (failed.state, failed.error.type) == (State.FAILURE, "ValueError")
    last: Any = await enqueue(chain(sample.ignored.s(fails=True), sample.add.si(1, 2)))
    assert (await ended(app, last.id)).state is State.FAILURE


async def test_a_client_opened_at_start_up_is_usable_in_tasks(app: Quart, worker: Worker) -> None:
    """It was opened once in each process that runs tasks, on the loop that they run on."""
    jobs = [await sample.resource.enqueue() for _ in range(6)]
    seen = [await value(job) for job in jobs]
    assert all(one["opened"] == "open" and one["same_loop"] for one in seen)
    started = [line for line in worker.notes if line.startswith("before_serving")]
    assert len(started) == len(set(started))
    assert {f"before_serving {one['pid']}" for one in seen} <= set(started)


@pytest.mark.parametrize("handle", [sample.count_down, sample.count_down_async])
@pytest.mark.parametrize("by", ["call", "run"])
async def test_a_task_that_calls_itself_is_the_plain_function(
    app: Quart, handle: Handle, by: str
) -> None:
    """As everywhere else: sync or to be awaited, and within the same job."""
    job = await handle.enqueue(3, by)
    assert await value(job) == [job.id] * 3


@pytest.mark.slow
@pytest.mark.parametrize("handle", [sample.limited, sample.limited_behind_decorator])
@pytest.mark.parametrize("catches", [True, False])
async def test_a_soft_limit_is_raised_inside_a_coroutine(
    app: Quart, worker: Worker, handle: Handle, catches: bool
) -> None:
    """The body may catch it and clean up. (The threads and solo pools of Celery know no limits.)"""
    if worker.pool in {"threads", "solo"}:
        pytest.skip("Celery's threads and solo pools ignore time limits")
    result = await ended(app, (await handle.enqueue(catches)).id)
    if catches:
        assert result.result == "SoftTimeLimitExceeded"
    else:
        assert result.error is not None
        assert result.error.type == "SoftTimeLimitExceeded"
