"""An operator asks where a running job is just now."""

import html
import re
import threading
from typing import Any, Final

import pytest
from quart import Quart

from service.jobs.job import Job
from service.worker.loop.process_loop import ProcessLoop
from service.worker.pool.stacks.answer import look_at
from tests.support import sample_tasks as sample
from tests.support.serving import serving_app
from tests.support.site import TOKEN
from tests.support.wait import wait_until_async
from tests.support.workers import Worker

ADMIN: Final = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
SETTINGS: Final = {"SERVICE_ADMIN_TOKEN": TOKEN}


async def stack_of(app: Quart, job: Job[Any]) -> str:
    """The page, as soon as the job is in its body."""
    client, page = app.test_client(use_cookies=False), ""

    async def is_told() -> bool:
        nonlocal page
        answer = await client.get(f"/dashboard/jobs/{job.id}/stack", headers=ADMIN)
        page = html.unescape(await answer.get_data(as_text=True))
        return "sample_tasks.py" in page or "py-spy" in page

    await wait_until_async(is_told, description=f"the stack of {job}", timeout=20)
    return page


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_the_frames_of_a_job_are_shown(shared_worker: Worker) -> None:
    """Of a body in a thread; of one on the loop, and of its child tasks."""
    async with serving_app(shared_worker, "tests.support.sample_tasks", **SETTINGS) as app:
        sync, on_loop = await sample.progress.enqueue(1), await sample.wait_for_child.enqueue()
        page = await stack_of(app, on_loop)
        assert "async with asyncio.TaskGroup() as children:" in page
        assert "The asyncio task" in page
        assert "await asyncio.to_thread(gate, current_job.id)" in page
        page = await stack_of(app, sync)
        assert "The body, in a thread" in page
        own, _, rest = page.partition("All frames")
        assert "gate(current_job.id)" in own
        assert "service/worker" not in own
        assert "service/worker" in rest
        for job in (sync, on_loop):
            shared_worker.open_gate(job.id)
            await job.result(timeout=20)


@pytest.mark.parametrize("shared_worker", ["prefork", "threads"], indirect=True)
async def test_they_are_shown_under_other_pools(shared_worker: Worker) -> None:
    """A body that a thread runs; a coroutine, for which the job's thread waits; its child tasks."""
    async with serving_app(shared_worker, "tests.support.sample_tasks", **SETTINGS) as app:
        sync, on_loop = await sample.progress.enqueue(1), await sample.wait_for_child.enqueue()
        page = await stack_of(app, sync)
        assert "The thread of the job" in page
        assert "gate(current_job.id)" in page.partition("All frames")[0]
        page = await stack_of(app, on_loop)
        assert "async with asyncio.TaskGroup() as children:" in page
        assert "The asyncio task" in page
        assert "await asyncio.to_thread(gate, current_job.id)" in page
        for job in (sync, on_loop):
            shared_worker.open_gate(job.id)
            await job.result(timeout=20)


@pytest.mark.parametrize("shared_worker", ["solo"], indirect=True)
async def test_solo_says_how_else(shared_worker: Worker) -> None:
    """The thread that would answer runs the job."""
    async with serving_app(shared_worker, "tests.support.sample_tasks", **SETTINGS) as app:
        job = await sample.progress.enqueue(1)
        page = await stack_of(app, job)
        assert "`solo`" in re.sub("</?code>", "`", page)
        shared_worker.open_gate(job.id)
        await job.result(timeout=20)


def test_a_blocked_loop_is_looked_at_from_outside() -> None:
    """It cannot be asked, and just then somebody wants to know."""
    loop, go_on = ProcessLoop(1), threading.Event()
    loop.call_soon(go_on.wait)
    no_job: Any = None
    note, ((title, frames),) = look_at(no_job, no_job, loop)
    go_on.set()
    loop.stop()
    assert "The event loop is blocked" in note
    assert (title, frames[-1].name) == ("The event loop", "wait")
