"""An operator asks where a running job is just now."""

import html
import threading
from typing import Any, Final

import pytest
from quart import Quart

from service.jobs.job import Job
from service.parts import parts_of
from service.results.model import State
from service.worker.loop.process_loop import ProcessLoop
from service.worker.pool.stack_command import _look_at
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
        sync, on_loop = await sample.progress.enqueue(1), await sample.progress_async.enqueue(1)
        children = await sample.look_from_children.enqueue(2.0)
        page = await stack_of(app, children)
        assert "by_child, by_grandchild = await asyncio.gather(child(), grandchild())" in page
        assert "await asyncio.sleep(pause)" in page
        assert "The asyncio task" in page
        page = await stack_of(app, sync)
        assert "The body, in a thread" in page
        own, _, rest = page.partition("All frames")
        assert "gate(current_job.id)" in own
        assert "service/worker" not in own
        assert "service/worker" in rest
        page = await stack_of(app, on_loop)
        assert "await asyncio.to_thread(gate, current_job.id)" in page
        for job in (sync, on_loop):
            shared_worker.open_gate(job.id)
            await job.result(timeout=20)
        await children.result(timeout=20)


@pytest.mark.parametrize("shared_worker", ["prefork"], indirect=True)
async def test_prefork_says_how_else(shared_worker: Worker) -> None:
    """Its parent does not see the frames of its children."""
    async with serving_app(shared_worker, "tests.support.sample_tasks", **SETTINGS) as app:
        job = await sample.progress.enqueue(1)
        assert "py-spy dump --pid " in await stack_of(app, job)
        shared_worker.open_gate(job.id)
        await job.result(timeout=20)
        assert (await parts_of(app).store.get(job.id)).state is State.SUCCESS


def test_a_blocked_loop_is_looked_at_from_outside() -> None:
    """It cannot be asked, and just then somebody wants to know."""
    loop, go_on = ProcessLoop(1), threading.Event()
    loop.call_soon(go_on.wait)
    no_job: Any = None
    note, ((title, frames),) = _look_at(no_job, loop)
    go_on.set()
    loop.stop()
    assert "The event loop is blocked" in note
    assert (title, frames[-1].name) == ("The event loop", "wait")
