"""Tasks that show what a body sees; loaded through SERVICE_TASK_MODULES, as a user's own are."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery import Task, chain, chord, current_task, group
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import allow_join_result
from quart import current_app, g

from service import TaskBlueprint, current_job, get_celery, report_progress

tasks = TaskBlueprint("sample")


def note(line: str) -> None:
    """Leave a line where the test finds it, from whichever process this is."""
    with open(os.environ["SAMPLE_NOTES"], "a") as notes:  # noqa: PTH123  append, in one write
        notes.write(line + "\n")


def _what_is_seen(task: Any) -> dict[str, Any]:
    seen_before = g.get("mark")
    g.mark = current_job.id
    return {
        "request": task.request.id,
        "current_task": current_task.request.id,
        "current_job": current_job.id,
        "task": current_job.task,
        "config": current_app.config["TEST_FOR_APP_CONTEXT"],
        "seen_before": seen_before,
    }


@tasks.task(bind=True)
def look(self: Any) -> dict[str, Any]:
    return _what_is_seen(self)


@tasks.task(bind=True)
async def look_async(self: Any) -> dict[str, Any]:
    return _what_is_seen(self)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as most decorators do, which know nothing of coroutines."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__name__ = function.__name__
    return call


@tasks.task(bind=True)
@_plain
async def look_behind_decorator(self: Any) -> dict[str, Any]:
    await asyncio.sleep(0)
    return _what_is_seen(self)


@tasks.task(bind=True)
async def look_from_children(self: Any, pause: float = 0.0) -> list[str]:
    """The job's id as a child task, a grandchild, a thread and the body itself see it."""

    def seen() -> list[str]:
        own = [self.request.id, current_task.request.id, current_job.id, g.mark]
        return own if current_app.config["TEST_FOR_APP_CONTEXT"] else []

    async def child() -> list[str]:
        await asyncio.sleep(pause)
        return seen()

    async def grandchild() -> list[str]:
        async with asyncio.TaskGroup() as tasks_of_this_job:
            inner = tasks_of_this_job.create_task(child())
        return inner.result()

    g.mark = current_job.id
    by_child, by_grandchild = await asyncio.gather(child(), grandchild())
    return [*by_child, *by_grandchild, *await asyncio.to_thread(seen), *seen()]


_own_log = logging.getLogger("tests.own")  # with a handler of the user's own
_handler = logging.StreamHandler()
_handler.setFormatter(logging.Formatter("own %(message)s %(task_name)s %(task_id)s"))
_own_log.addHandler(_handler)
_own_log.propagate = False


def _log(who: str) -> None:
    logging.getLogger("tests.elsewhere").warning("logged by %s", who, extra={"task_id": "mine"})
    _own_log.warning("logged by %s", who)


@tasks.task
def log_sync() -> None:
    _log("a thread")


@tasks.task
async def log_async() -> None:
    async def child() -> None:
        _log("a child task")

    await asyncio.gather(child(), asyncio.to_thread(_log, "a thread"))
    _log("a body")


def _write_log(name: str) -> None:
    """One of each kind of line."""
    logger = logging.getLogger("tests.kept")
    logger.info("hello %s", name)
    print("a", 1, name)  # noqa: T201  jobs may
    print("10 %\r100 %", end="", file=sys.stderr)  # noqa: T201
    print(" done\nno end", end="", file=sys.stderr)  # noqa: T201
    logger.warning("odd %d", "no number")
    try:
        _raise("ValueError")
    except ValueError:
        logger.exception("\x1b[31mred\x1b[0m \x07 \ud800")
    logger.info("x" * 100_000)


@tasks.task
def write_log(name: str) -> None:
    _write_log(name)


@tasks.task(bind=True, max_retries=1, default_retry_delay=0)
async def write_log_async(self: Any, name: str) -> None:
    """Written by a child task and at a retry, too."""

    async def child() -> None:
        await asyncio.sleep(0)
        logging.getLogger("tests.kept").info("child of %s", name)

    await asyncio.gather(child(), asyncio.to_thread(_write_log, name))
    if self.request.retries == 0:
        raise self.retry()


@tasks.task
async def write_much(lines: int) -> None:
    for number in range(lines):
        logging.getLogger("tests.kept").info("line %d of many", number)


class Weighed(Task):  # type: ignore[type-arg]  # celery-types: generic, Celery: not
    """A class that knows nothing of this service, as other programs' are."""

    unit = "kg"

    async def on_success(  # type: ignore[override]  # Celery's is not `async def`
        self, value: Any, job_id: str, *_: Any
    ) -> None:
        _note_hook("on_success", self, job_id)


class Doubled(Weighed):
    """Calls its body by itself."""

    def __call__(self, *args: Any) -> Any:
        return 2 * self.run(*args)


class DoubledAfterSuper(Weighed):
    """The same, as Celery's documentation has it."""

    def __call__(self, *args: Any) -> Any:
        return 2 * super().__call__(*args)


class Registered(Weighed):
    """A task that is a class."""

    name = "sample.registered"

    async def run(self, weight: int) -> str:
        return await _weigh_async(self, weight)


@tasks.task(bind=True, base=Weighed)
def weigh(self: Any, weight: int) -> str:
    return _weigh(self, weight)


@tasks.task(bind=True, base=Weighed)
async def weigh_async(self: Any, weight: int) -> str:
    return await _weigh_async(self, weight)


@tasks.task(bind=True, base=Doubled)
async def weigh_twice(self: Any, weight: int) -> str:
    return await _weigh_async(self, weight)


@tasks.task(bind=True, base=DoubledAfterSuper)
def weigh_twice_after_super(self: Any, weight: int) -> str:
    return _weigh(self, weight)


async def _weigh_async(task: Any, weight: int) -> str:
    await asyncio.sleep(0)
    return _weigh(task, weight)


def _weigh(task: Any, weight: int) -> str:
    """Also seen: the app context, and whether a sync body is kept off the event loop."""
    where = current_app.config["TEST_FOR_APP_CONTEXT"]
    thread = "loop" if threading.current_thread().name == "event-loop" else "thread"
    return f"{weight} {task.unit} {where} {thread};"


@tasks.task
async def resource() -> dict[str, Any]:
    """The client that was opened at start-up, and whether it belongs to this body's loop."""
    opened = current_app.extensions["sample.resource"]
    return {
        "opened": opened["state"],
        "same_loop": opened["loop"] is asyncio.get_running_loop(),
        "pid": os.getpid(),
    }


@tasks.task
def add(a: int, b: int) -> int:
    return a + b


@tasks.task
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@tasks.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@tasks.task(bind=True)
def canvas(self: Any, kind: str) -> str:
    return _send(kind)


@tasks.task(bind=True)
async def canvas_async(self: Any, kind: str) -> str:
    return _send(kind)


def _send(kind: str) -> str:
    """Start a canvas from inside a body; returns the id that its result will have."""
    sent: Any
    if kind == "chain":
        sent = chain(add.s(1, 2), add_async.s(3)).apply_async()
    elif kind == "chord":
        sent = chord([add.s(1, 1), add_async.s(2, 2)], total.s()).apply_async()
    elif kind == "delay":
        sent = add_async.delay(2, 4)
    else:
        group_result: Any = group([add.s(1, 5)]).apply_async()
        sent = group_result[0]
    return str(sent.id)


@tasks.task
async def enqueue_another() -> str:
    job = await add.enqueue(4, 5)
    return job.id


class WorseError(Exception):
    """Raised to be retried."""


@tasks.task(bind=True, max_retries=2, default_retry_delay=0)
def retry(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(exc=WorseError("again"))
    return int(self.request.retries)


@tasks.task(bind=True, max_retries=2, default_retry_delay=0)
async def retry_async(self: Any) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(exc=WorseError("again"))
    return int(self.request.retries)


_AUTORETRY: dict[str, Any] = {
    "autoretry_for": (WorseError,),
    "retry_kwargs": {"max_retries": 2, "countdown": 0},
}


@tasks.task(bind=True, **_AUTORETRY)
def autoretry(self: Any) -> int:
    if self.request.retries < 2:
        raise WorseError("again")
    return int(self.request.retries)


@tasks.task(bind=True, **_AUTORETRY)
async def autoretry_async(self: Any) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise WorseError("again")
    return int(self.request.retries)


def _raise(name: str) -> None:
    errors: dict[str, BaseException] = {
        "MemoryError": MemoryError(),
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "CancelledError": asyncio.CancelledError(),
        "GeneratorExit": GeneratorExit(),
        "BaseException": BaseException("odd"),
        "ValueError": ValueError("plain", 7),
    }
    raise errors[name]


@tasks.task
def raise_error(name: str) -> None:
    _raise(name)


@tasks.task
async def raise_error_async(name: str) -> None:
    await asyncio.sleep(0)
    _raise(name)


def _note_errback(task: str, request: Any, error: BaseException) -> None:
    thread = "loop" if threading.current_thread().name == "event-loop" else "thread"
    note(
        f"{task} {request.id} {current_task.request.id} {current_job.id} {current_job.task}"
        f" {type(error).__name__} {current_app.config['TEST_FOR_APP_CONTEXT']} {thread}"
    )


@tasks.task
def errback(request: Any, error: BaseException, traceback: Any) -> None:
    _note_errback("errback", request, error)


@tasks.task
async def errback_async(request: Any, error: BaseException, traceback: Any) -> None:
    await asyncio.sleep(0)
    _note_errback("errback_async", request, error)


@tasks.task
def errback_at_gate(request: Any, error: BaseException, traceback: Any) -> None:
    note(f"errback at gate {request.id}")
    gate(f"errback {request.id}")
    note(f"errback left {request.id}")


@tasks.task
def errback_that_dies_once(request: Any, error: BaseException, traceback: Any) -> None:
    """End the process that it runs in, the first time."""
    marker = Path(os.environ["SAMPLE_GATES"]) / f"died {request.id}"
    if not marker.exists():
        marker.touch()
        os._exit(3)
    note(f"errback {request.id}")


@tasks.task
async def child_raises(name: str) -> None:
    """The error leaves a child asyncio task, where the event loop meets it first."""

    async def child() -> None:
        await asyncio.sleep(0)
        _raise(name)

    await asyncio.gather(child())


def _note_hook(hook: str, task: Any, job_id: str) -> None:
    """With one id, if everybody names the same."""
    ids = {job_id, task.request.id, current_task.request.id, current_job.id}
    note(f"{hook} {' or '.join(ids)} {current_app.config['TEST_FOR_APP_CONTEXT']}")


_HOOKS: dict[str, Any] = {
    "before_start": lambda self, job_id, *_: _note_hook("before_start", self, job_id),
    "on_success": lambda self, value, job_id, *_: _note_hook("on_success", self, job_id),
    "on_failure": lambda self, error, job_id, *_: _note_hook("on_failure", self, job_id),
    "on_retry": lambda self, error, job_id, *_: _note_hook("on_retry", self, job_id),
    "after_return": lambda self, state, value, job_id, *_: _note_hook("after_return", self, job_id),
}


@tasks.task(bind=True, max_retries=1, default_retry_delay=0, **_HOOKS)
async def hooked(self: Any, ending: str) -> None:
    if ending == "failure":
        raise ValueError(ending)
    if ending == "retry" and self.request.retries == 0:
        raise self.retry()


@tasks.task
def progress(steps: int) -> str:
    for step in range(1, steps + 1):
        report_progress(step, steps, f"step {step}")
    gate(current_job.id)
    return "done"


@tasks.task
async def progress_async(steps: int) -> str:
    for step in range(1, steps + 1):
        report_progress(step, steps, f"step {step}")
    await asyncio.to_thread(gate, current_job.id)
    return "done"


@tasks.task(bind=True)
def retry_behind_gate(self: Any, name: str) -> int:
    if self.request.retries == 0:
        gate(name)
        raise self.retry(countdown=0)
    return int(self.request.retries)


@tasks.task
async def wait_for_child() -> None:
    async def child() -> None:
        await asyncio.to_thread(gate, current_job.id)

    async with asyncio.TaskGroup() as children:
        children.create_task(child())


def gate(name: str) -> None:
    """Hold a body until the test makes the file that it waits for."""
    path = os.path.join(os.environ["SAMPLE_GATES"], name)  # noqa: PTH118
    pause = threading.Event()
    while not os.path.exists(path):  # noqa: PTH110
        pause.wait(0.01)


@tasks.task(soft_time_limit=1)
async def limited(catches: bool) -> str:
    return await _sleep_long(catches)


@tasks.task(soft_time_limit=1)
@_plain
async def limited_behind_decorator(catches: bool) -> str:
    return await _sleep_long(catches)


async def _sleep_long(catches: bool) -> str:
    try:
        await asyncio.sleep(30)
    except Exception as error:
        if catches:
            return type(error).__mro__[1].__name__
        raise
    return "slept"


@tasks.task(bind=True)
def count_down(self: Any, number: int, by: str) -> list[str]:
    return [] if number == 0 else [self.request.id or "", *_itself(self, by)(number - 1, by)]


@tasks.task(bind=True)
async def count_down_async(self: Any, number: int, by: str) -> list[str]:
    await asyncio.sleep(0)
    return [] if number == 0 else [self.request.id, *await _itself(self, by)(number - 1, by)]


def _itself(task: Any, by: str) -> Any:
    return task if by == "call" else task.run


@tasks.task
def leave_note(line: str) -> None:
    note(line)


@tasks.task
async def note_slowly(line: str) -> None:
    await asyncio.sleep(1)
    note(line)


@tasks.task(bind=True)
def retry_once(self: Any, line: str, countdown: float) -> None:
    note(f"{line} {self.request.retries}")
    if self.request.retries == 0:
        raise self.retry(countdown=countdown)


@tasks.task(bind=True)
def retry_and_end(self: Any, line: str) -> None:
    """End well, although it is to be run once more."""
    note(f"{line} {self.request.retries}")
    if self.request.retries == 0:
        self.retry(countdown=0.2, throw=False)


@tasks.task(bind=True)
def replace(self: Any, line: str) -> None:
    note(f"{line} before")
    self.replace(leave_note.si(f"{line} after"))


@tasks.task(after_return=lambda *_: gate("after"))
def hang_after(line: str) -> None:
    """End well, and never be acknowledged."""
    note(line)


@tasks.task(after_return=lambda *_: os._exit(3))
def end_process_after() -> int:
    """End well, and then the process that it ran in."""
    return 4


@tasks.task
def end_process() -> None:
    """End the process that it runs in, each time."""
    os._exit(3)


@tasks.task(time_limit=1)
def hang() -> None:
    """Go on for ever; the pool has to end it."""
    gate("never")


async def _note_in_child(hook: str, task: Any, job_id: str) -> None:
    """Only where the app was started there is the resource."""
    await asyncio.sleep(0)
    _note_hook(f"{hook} {current_app.extensions['sample.resource']['state']}", task, job_id)


_HOOKS_IN_CHILD: dict[str, Any] = {
    "on_failure": lambda self, error, job_id, *_: _note_in_child("on_failure", self, job_id),
    "after_return": lambda self, state, value, job_id, *_: _note_in_child(
        "after_return", self, job_id
    ),
}


@tasks.task(bind=True, time_limit=1, **_HOOKS_IN_CHILD)
def hang_with_hooks(self: Any) -> None:
    gate("never")


@tasks.task
async def moment() -> datetime:
    return datetime(2026, 1, 2, tzinfo=UTC)


@tasks.task(ignore_result=True)
async def ignored(fails: bool = False) -> str:
    if fails:
        raise ValueError("nobody asks")
    return "nobody asks"


def _pair(celery: Any) -> Any:
    child = celery.tasks["sample.add_async"]
    return group(child.s(1, 1), child.s(0, 1)).apply_async()


def _error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except (ValueError, CeleryTimeoutError) as error:
        return str(error)
    return "no error"


def _nested(celery: Any) -> Any:
    child = celery.tasks["sample.add_async"]
    inner = chain(child.s(1, 0), group(child.s(0), child.s(1)))
    return group(inner, child.s(0, 0)).apply_async()


_WAITS: dict[str, Callable[[Any], Any]] = {
    "get": lambda c: c.tasks["sample.add_async"].delay(1, 2).get(timeout=10),
    "error": lambda c: str(c.tasks["sample.fail_with"].delay("3").get(10, propagate=False)),
    "chain's error": lambda c: _error_of(
        chain(c.tasks["sample.fail_with"].s("3"), c.tasks["sample.add"].s(1)).apply_async().get
    ),
    "time-out": lambda c: _error_of(lambda: c.AsyncResult("unknown").get(timeout=0.2)),
    "group": lambda c: sum(_pair(c).get(timeout=10)),
    "nested": lambda c: _nested(c).get(timeout=10),
    "iterator": lambda c: sum(meta["result"] for _, meta in _pair(c).iter_native(timeout=10)),
    "control": lambda c: c.control.inspect(timeout=10, limit=1).ping() is not None or "no answer",
    "event": lambda c: current_task.send_event("task-custom"),
}


@tasks.task
async def wait_in_celerys_way(kind: str) -> list[Any]:
    """Call what blocks in Celery; what it returned, and whether the loop turned meanwhile."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    celery = get_celery(current_app._get_current_object())  # type: ignore[attr-defined]
    with allow_join_result():
        value = _WAITS[kind](celery)
    turning.cancel()
    return [value, turns > 0]


@tasks.task
async def wait_for_another(number: int) -> int:
    """Send a job and wait for it, which many do at once."""
    celery = get_celery(current_app._get_current_object())  # type: ignore[attr-defined]
    with allow_join_result():
        return int(celery.tasks["sample.send_and_wait_no_more"].delay(number).get(timeout=20))


@tasks.task
async def send_and_wait_no_more(number: int) -> int:
    celery = get_celery(current_app._get_current_object())  # type: ignore[attr-defined]
    celery.tasks["sample.add"].delay(number, number)
    return number


@tasks.task
async def fail_with(text: str) -> None:
    raise ValueError(text)
