"""Pins what the worker leans on in Celery, Kombu, billiard and greenlet: none of it is promised.

When one of these fails after an upgrade, the code that its docstring names has to be looked at.
"""

import inspect
import sys
import threading
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any
from uuid import UUID

import click
import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, Task, shared_task, signals
from celery._state import _task_stack  # type: ignore[attr-defined]  # not in celery-types
from celery.app import trace
from celery.app.base import Celery as BaseCelery
from celery.app.task import Context
from celery.app.trace import TraceInfo, fast_trace_task
from celery.backends.base import Backend
from celery.backends.redis import RedisBackend
from celery.bin.worker import worker as worker_command
from celery.concurrency.base import BasePool
from celery.concurrency.prefork import _run_ready_callbacks  # type: ignore[attr-defined]
from celery.exceptions import Reject
from celery.local import Proxy
from celery.utils.threads import LocalManager, LocalStack
from celery.worker import state, strategy
from celery.worker.request import Request
from greenlet import getcurrent, greenlet
from kombu.asynchronous import Hub
from kombu.message import Message
from kombu.transport.virtual import Message as VirtualMessage
from werkzeug.local import LocalProxy

from service import create_app, get_celery


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_tracer_takes_name_id_and_request_first() -> None:
    """worker/pool/job.py reads a job's task, id and request from the arguments of a pool.

    If the order is another, read them there from where the tracer does.
    """
    assert parameters(fast_trace_task)[:4] == ["task", "uuid", "request", "body"]


def test_a_request_hands_these_callbacks_to_a_pool() -> None:
    """worker/pool/pool.py takes them.

    If a callback is missing or new, have `on_apply` take what Celery gives it.
    """
    source = inspect.getsource(Request.execute_using_pool)
    for name in (
        *("accept_callback=self.on_accepted", "timeout_callback=self.on_timeout"),
        *("callback=self.on_success", "error_callback=self.on_failure"),
        *("soft_timeout=", "timeout="),
    ):
        assert name in source
    assert parameters(Request.on_timeout)[1:] == ["soft", "timeout"]
    assert parameters(Request.on_accepted)[1:] == ["pid", "time_accepted"]


def test_a_rejected_request_is_put_back_and_a_terminated_one_revoked() -> None:
    """worker/pool/job.py ends jobs that were given back, or revoked, by these two errors.

    If they mean something else, such a job is stored as a failure: find what ends it without that.
    """
    source = inspect.getsource(Request.on_failure)
    assert "isinstance(exc, Reject)" in source
    assert "self.reject(requeue=exc.requeue)" in source
    assert "is_terminated = isinstance(exc, Terminated)" in source
    assert Reject("why", requeue=True).requeue  # type: ignore[attr-defined]  # not in celery-types


def test_a_pool_is_called_in_this_way() -> None:
    """worker/pool/pool.py overrides them; `_get_info` is what `inspect stats` shows.

    If a method is not called any more, the pool does not stop: compare Celery's eventlet pool.
    """
    for method in ("on_start", "on_stop", "on_apply", "on_close", "on_terminate", "flush"):
        assert callable(getattr(BasePool, method))
    assert set(BasePool(limit=3)._get_info()) == {"implementation", "max-concurrency"}  # type: ignore[attr-defined]
    assert parameters(BasePool.terminate_job) == ["self", "pid", "signal"]


def test_acks_can_be_run_while_the_hub_stands_still() -> None:
    """worker/pool/main_thread.py does, while the pool waits for the last jobs.

    If there is no such function, run the hub's ready acks in another way, or jobs run twice.
    """
    hub = Hub()
    done: list[str] = []

    class Acknowledged(Message):
        def ack_log_error(self, *_: object, **__: object) -> None:
            done.append("acknowledged")

    hub.call_soon(Acknowledged(body="").ack_log_error)
    hub.call_soon(done.append, "something else")
    _run_ready_callbacks(hub)
    assert done == ["acknowledged"]
    hub.close()


def test_the_flags_of_a_shutdown_have_these_names() -> None:
    """broker/celery_worker.py reads them; None and False mean no, and 0 is an exit code.

    If they are elsewhere, a worker that stops goes on taking jobs: read what its signals set.
    """
    assert state.should_stop is None
    assert state.should_terminate is None
    assert "is not None and should_stop is not False" in inspect.getsource(state.maybe_shutdown)


def test_the_pool_may_still_be_chosen_when_a_worker_inits() -> None:
    """worker/pool/default_pool.py does, in these two documented signals.

    If it is chosen earlier, a worker without `-P` runs prefork: find an earlier signal.
    """
    assert signals.celeryd_init.providing_args == {"instance", "conf", "options"}  # type: ignore[attr-defined]
    source = inspect.getsource(Celery().WorkController.setup_instance)
    assert source.index("worker_init.send") < source.index("get_implementation(self.pool_cls)")
    (option,) = [one for one in worker_command.params if one.name == "pool"]
    assert isinstance(option, click.Option)
    assert option.default == "prefork"


def test_the_tracer_lets_what_is_not_an_exception_through() -> None:
    """worker/loop/exceptions.py: JobCancelledError must not be stored as a failure.

    If it is caught, cancelled jobs are stored as failures: derive it from what is let through.
    """
    source = inspect.getsource(inspect.getmodule(TraceInfo))  # type: ignore[arg-type]
    assert "except BaseException:\n                    raise" in source


def test_the_backend_goes_through_these_methods() -> None:
    """worker/backend.py overrides them, to store by script and to keep off the event loop.

    If one is not called, results are stored past the script: override what is called in its place.
    """
    assert parameters(RedisBackend.store_result)[1:6] == [
        *("task_id", "result", "state", "traceback", "request"),
    ]
    for method in ("_ensure_retryable", "ensure", "on_chord_part_return", "encode_result"):
        assert callable(getattr(RedisBackend, method))
    assert "self.store_result(" in inspect.getsource(RedisBackend.mark_as_done)


def test_a_key_is_what_celery_makes_of_an_id() -> None:
    """worker/backend.py makes it by itself, which is cheaper.

    If they differ, Celery's clients find no result: make it as Celery does.
    """
    celery: Any = get_celery(
        create_app(
            {"SERVICE_CELERY__RESULT_BACKEND_TRANSPORT_OPTIONS": '{"global_keyprefix": "g"}'}
        )
    )
    ours: Any = celery.backend.get_key_for_task
    theirs: Any = partial(RedisBackend.get_key_for_task, celery.backend)
    for id_ in ("one", UUID(int=1)):
        assert ours(id_) == theirs(id_)
        assert ours(id_, b".more") == theirs(id_, b".more")
    assert ours("one").startswith(b"g")
    with pytest.raises(ValueError, match="empty"):
        ours("")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_whether_the_time_is_utc_is_what_celery_says(zone: str) -> None:
    """jobs/celery/app.py asks once, and not for each message.

    If they differ, times in messages are wrong: ask for each message again.
    """
    celery: Any = get_celery(create_app({"SERVICE_CELERY__TIMEZONE": zone}))
    assert celery.uses_utc_timezone() is BaseCelery.uses_utc_timezone(celery) is (zone == "UTC")
    assert "app.uses_utc_timezone()" in inspect.getsource(strategy)


def test_everything_that_is_sent_goes_through_send_task() -> None:
    """jobs/celery/app.py writes the QUEUED record there, and hops off the event loop.

    If there is another way out, jobs have no record until they start: override that one too.
    """
    assert "producer_or_acquire" in inspect.getsource(BaseCelery.send_task)


def test_tasks_are_made_of_functions_in_one_place() -> None:
    """jobs/celery/app.py sees to their base there, also to that of tasks shared by libraries.

    If not, tasks of libraries run outside of the app context: override what makes them.
    """
    assert parameters(BaseCelery._task_from_fun)[:4] == ["self", "fun", "name", "base"]
    assert "._task_from_fun(fun, **opts)" in inspect.getsource(BaseCelery.task)
    assert "._task_from_fun(" in inspect.getsource(shared_task)


def test_errbacks_are_called_in_one_place() -> None:
    """worker/backend.py has them run as bodies there, and puts off those of a chord.

    If they are called elsewhere, an `async def` errback never runs: override that call.
    """
    backend: Any = RedisBackend
    source = inspect.getsource(backend._call_task_errbacks)
    assert "errback(request, exc, traceback)" in source
    assert parameters(backend._call_task_errbacks) == ["self", "request", "exc", "traceback"]
    assert "self._call_task_errbacks(" in inspect.getsource(backend.mark_as_failure)
    assert "self._call_task_errbacks(" in inspect.getsource(backend.chord_error_from_stack)


def test_the_key_of_a_stack_of_celerys_can_be_chosen() -> None:
    """worker/loop/celery_stacks.py does, so that a job's child tasks and threads see its request.

    If it fails, look in celery.utils.threads for what took the place of `ident_func`.
    """
    key = "one job"
    stack: Any = LocalStack()
    LocalManager([stack], ident_func=lambda: key)
    stack.push("task")
    key = "another"
    assert stack.top is None
    key = "one job"
    assert stack.top == "task"
    assert isinstance(_task_stack, type(stack))


def test_billiards_exception_info_reads_the_error_being_handled() -> None:
    """worker/pool/job.py makes them.

    If it takes the error as an argument, give it: else jobs fail with another one's traceback.
    """
    try:
        raise ValueError("seen")  # noqa: TRY301
    except ValueError:
        assert "seen" in str(ExceptionInfo().exception)


def test_a_greenlet_may_share_the_context_of_its_parent() -> None:
    """worker/loop/bridge.py: what either side sets is seen by both.

    If greenlet copies contexts, a body's contextvars are lost at each await: pass them by hand.
    """
    color: ContextVar[str] = ContextVar("color")

    def outside() -> str:
        child = greenlet(lambda: color.set("red"))
        child.gr_context = getcurrent().gr_context
        child.switch()
        return color.get()

    assert copy_context().run(outside) == "red"


def test_protected_is_zero_until_the_tracers_first_call() -> None:
    """worker/task has the phase of a job there, as Celery's own `__protected_call__` has.

    If Celery tells its tracer's call of a task otherwise, a body is wrapped twice, or never: look
    at `celery.app.trace.setup_worker_optimizations` and `Task.__call__`.
    """
    assert Context()._protected == 0  # type: ignore[attr-defined]  # not in celery-types
    source = inspect.getsource(trace)
    assert "not req._protected and" in source
    assert "req._protected = 1" in source


def test_celerys_stacks_are_keyed_by_what_they_are_told() -> None:
    """worker/loop/celery_stacks.py keys them by job, where Celery keys them by thread or greenlet.

    If a stack has no such seam any more, child tasks do not see their job: find what replaces
    `LocalManager(ident_func=...)`.
    """
    key = ["one"]
    stack: Any = LocalStack()
    LocalManager([stack], ident_func=lambda: key[0])
    stack.push("of one")
    key[0] = "two"
    assert stack.top is None
    key[0] = "one"
    assert stack.top == "of one"
    assert type(_task_stack) is type(stack)
    assert "cls.request_stack = LocalStack()" in inspect.getsource(Task.bind)


def test_a_records_meta_and_ttl_are_made_by_these() -> None:
    """worker/backend.py writes records by itself, but with Celery's meta and its TTL.

    If one is gone, records of ours and of stock workers differ: compare with `_store_result`.
    """
    backend: Any = RedisBackend
    assert parameters(backend._get_result_meta)[1:5] == ["result", "state", "traceback", "request"]
    celery: Any = Celery(set_as_current=False)
    assert celery.conf.find_value_for_key("extended", "result") is False
    assert "self.expires = self.prepare_expires(expires" in inspect.getsource(Backend.__init__)


def test_a_request_keeps_its_message_in_these_slots() -> None:
    """worker/task/request.py fills them by itself, without what nobody asks for.

    If there are others, a job may lack an attribute that Celery reads: compare `Request.__init__`.
    """
    request: Any = Request
    assert {"_request_dict", "_app", "_root_id"} <= set(request.__slots__)
    assert "self._request_dict" in inspect.getsource(request._context.func)
    assert "self._decoded_cache" in inspect.getsource(Message)
    assert "_raw" in inspect.getsource(VirtualMessage)


def test_frames_of_other_threads_can_be_seen() -> None:
    """worker/pool/watchdog.py names the line that blocks the loop by them.

    If Python has another name for it, the watchdog can name the job alone.
    """
    assert threading.get_ident() in sys._current_frames()


def test_a_proxy_can_be_opened() -> None:
    """broker/leases/registry.py and dashboard/pages hand the app itself to another thread.

    If it cannot, the proxy is looked up in that thread, where no app is current.
    """
    for proxy in (Proxy, LocalProxy):
        assert hasattr(proxy, "_get_current_object")
