"""A job's child tasks: like any other of asyncio's, but able to wait in synchronous code."""

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator
from contextvars import ContextVar, copy_context
from weakref import ref

import pytest

from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.celery_stacks import enter_job
from service.worker.loop.child_tasks import ChildCoroutine, ChildTasks

color: ContextVar[object] = ContextVar("color", default="none")


@pytest.fixture
async def tasks() -> AsyncIterator[ChildTasks]:
    """A loop like a worker's."""
    loop = asyncio.get_running_loop()
    made = ChildTasks()
    loop.set_task_factory(made.make)
    yield made
    loop.set_task_factory(None)


async def in_job(coroutine: object) -> object:
    """Await the coroutine as a child task of a job."""
    context = copy_context()
    context.run(enter_job, object())
    return await asyncio.get_running_loop().create_task(coroutine, context=context)  # type: ignore[arg-type]


async def wait_in_synchronous_code(seconds: float, value: object = None) -> object:
    await asyncio.sleep(0)
    return await_(asyncio.sleep(seconds, value))


@pytest.mark.usefixtures("tasks")
async def test_a_thousand_children_wait_in_synchronous_code_at_once() -> None:
    """One after the other they would take a minute."""

    async def body() -> list[object]:
        return await asyncio.gather(*(wait_in_synchronous_code(0.05, n) for n in range(1000)))

    async with asyncio.timeout(10):
        assert await in_job(body()) == list(range(1000))


@pytest.mark.usefixtures("tasks")
async def test_tasks_of_no_job_are_left_alone() -> None:
    """Whoever is not in a job pays nothing for it."""

    async def look() -> bool:
        task = asyncio.current_task()
        return current_bridge() is None and not isinstance(task and task.get_coro(), ChildCoroutine)

    assert await asyncio.create_task(look())
    assert not await in_job(look())


@pytest.mark.usefixtures("tasks")
async def test_a_child_is_cancelled_where_it_waits_in_synchronous_code() -> None:
    """By a timeout, or by the task group that another child's error ends; it may clean up."""
    cleaned: list[str] = []

    async def child(name: str) -> None:
        try:
            await wait_in_synchronous_code(30)
        finally:
            await asyncio.sleep(0)
            cleaned.append(name)

    async def fail() -> None:
        await wait_in_synchronous_code(0.01)
        raise KeyError("mine")

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child("by group"))
            group.create_task(fail())

    async def body() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child("by time"), 0.01)
        with pytest.raises(BaseExceptionGroup) as caught:
            await together()
        assert isinstance(caught.value.exceptions[0], KeyError)

    await in_job(body())
    assert cleaned == ["by time", "by group"]


@pytest.mark.usefixtures("tasks")
async def test_a_child_is_itself_to_asyncio() -> None:
    """Its name, its context and its coroutine are what they are without a job."""

    async def child() -> tuple[object, object]:
        color.set("red")
        await wait_in_synchronous_code(0)
        task = asyncio.current_task()
        assert task is not None
        return task.get_name(), color.get()

    async def body() -> None:
        coroutine = child()
        task = asyncio.create_task(coroutine, name="mine")
        assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED  # type: ignore[arg-type]
        assert "child()" in repr(task)
        await asyncio.sleep(0)
        assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_SUSPENDED  # type: ignore[arg-type]
        assert await task == ("mine", "red")
        assert color.get() == "none"

    await in_job(body())


async def test_few_bridges_serve_many_children(tasks: ChildTasks) -> None:
    """Those that do not wait in synchronous code share one; of many that do, most are let go."""

    async def body() -> None:
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(500)))

    await in_job(body())
    assert len(tasks.idle) == 1
    waits = (in_job(wait_in_synchronous_code(0.01)) for _ in range(100))
    await asyncio.gather(*waits)
    assert 1 < len(tasks.idle) <= 16


@pytest.mark.usefixtures("tasks")
async def test_nothing_of_a_child_is_kept() -> None:
    """Neither what it left in its context nor what it returned or raised."""

    class Thing:
        pass

    async def child(*, fails: bool) -> Thing:
        thing = Thing()
        color.set(thing)
        await wait_in_synchronous_code(0)
        seen.append(ref(thing))
        if fails:
            raise KeyError(thing)
        return thing

    seen: list[ref[Thing]] = []
    gc.disable()
    try:
        await in_job(child(fails=False))
        with pytest.raises(KeyError):
            await in_job(child(fails=True))
        await asyncio.sleep(0)
        assert [thing() for thing in seen] == [None, None]
    finally:
        gc.enable()


@pytest.mark.usefixtures("tasks")
async def test_a_child_that_is_dropped_is_closed_where_it_waits() -> None:
    """As a coroutine is: its `finally` runs."""
    left: list[str] = []

    async def child() -> None:
        try:
            await wait_in_synchronous_code(30)
        finally:
            left.append("finally")

    context = copy_context()
    context.run(enter_job, object())
    coroutine = ChildCoroutine(child(), context, [])
    coroutine.send(None)
    coroutine.send(None)  # it waits in synchronous code now
    coroutine.close()
    assert left == ["finally"]
