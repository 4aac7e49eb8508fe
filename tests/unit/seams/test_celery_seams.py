"""Pins what the worker leans on in Celery, Kombu, billiard and greenlet without it being promised.

When one of these fails after an upgrade, the code that its docstring names has to be looked at.
"""

import inspect
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any
from uuid import UUID

import click
import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, shared_task, signals
from celery.app.base import Celery as BaseCelery
from celery.app.trace import TraceInfo, fast_trace_task
from celery.backends.redis import RedisBackend
from celery.bin.worker import worker as worker_command
from celery.concurrency.base import BasePool
from celery.concurrency.prefork import _run_ready_callbacks  # type: ignore[attr-defined]
from celery.exceptions import Reject
from celery.worker import state, strategy
from celery.worker.request import Request
from greenlet import getcurrent, greenlet
from kombu.asynchronous import Hub
from kombu.message import Message

from service import create_app, get_celery


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_tracer_takes_name_id_and_request_first() -> None:
    """worker/running.py reads a job's task, id and request from the arguments of a pool."""
    assert parameters(fast_trace_task)[:4] == ["task", "uuid", "request", "body"]


def test_a_request_hands_these_callbacks_to_a_pool() -> None:
    """worker/pool.py takes them."""
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
    """worker/running.py ends jobs that were given back, or revoked, by these two errors."""
    source = inspect.getsource(Request.on_failure)
    assert "isinstance(exc, Reject)" in source
    assert "self.reject(requeue=exc.requeue)" in source
    assert "is_terminated = isinstance(exc, Terminated)" in source
    assert Reject("why", requeue=True).requeue  # type: ignore[attr-defined]  # not in celery-types


def test_a_pool_is_called_in_this_way() -> None:
    """worker/pool.py overrides them; `_get_info` is what `inspect stats` shows."""
    for method in ("on_start", "on_stop", "on_apply", "on_close", "on_terminate", "flush"):
        assert callable(getattr(BasePool, method))
    assert set(BasePool(limit=3)._get_info()) == {"implementation", "max-concurrency"}  # type: ignore[attr-defined]
    assert parameters(BasePool.terminate_job) == ["self", "pid", "signal"]


def test_acks_can_be_run_while_the_hub_stands_still() -> None:
    """worker/main_thread.py does, while the pool waits for the last jobs."""
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
    """broker/worker_state.py reads them; None and False mean no, and 0 is an exit code."""
    assert state.should_stop is None
    assert state.should_terminate is None
    assert "is not None and should_stop is not False" in inspect.getsource(state.maybe_shutdown)


def test_the_pool_may_still_be_chosen_when_a_worker_inits() -> None:
    """worker/choice.py does, in these two documented signals."""
    assert signals.celeryd_init.providing_args == {"instance", "conf", "options"}  # type: ignore[attr-defined]
    source = inspect.getsource(Celery().WorkController.setup_instance)
    assert source.index("worker_init.send") < source.index("get_implementation(self.pool_cls)")
    (option,) = [one for one in worker_command.params if one.name == "pool"]
    assert isinstance(option, click.Option)
    assert option.default == "prefork"


def test_the_tracer_lets_what_is_not_an_exception_through() -> None:
    """worker/interrupt.py: JobCancelledError must not be stored as a failure."""
    source = inspect.getsource(inspect.getmodule(TraceInfo))  # type: ignore[arg-type]
    assert "except BaseException:\n                    raise" in source


def test_the_backend_goes_through_these_methods() -> None:
    """worker/backend.py overrides them, to store by script and to keep off the event loop."""
    assert parameters(RedisBackend.store_result)[1:6] == [
        *("task_id", "result", "state", "traceback", "request"),
    ]
    for method in ("_ensure_retryable", "ensure", "on_chord_part_return", "encode_result"):
        assert callable(getattr(RedisBackend, method))
    assert "self.store_result(" in inspect.getsource(RedisBackend.mark_as_done)


def test_a_key_is_what_celery_makes_of_an_id() -> None:
    """worker/backend.py makes it by itself, which is cheaper."""
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
    """jobs/celery_app.py asks once, and not for each message."""
    celery: Any = get_celery(create_app({"SERVICE_CELERY__TIMEZONE": zone}))
    assert celery.uses_utc_timezone() is BaseCelery.uses_utc_timezone(celery) is (zone == "UTC")
    assert "app.uses_utc_timezone()" in inspect.getsource(strategy)


def test_everything_that_is_sent_goes_through_send_task() -> None:
    """jobs/celery_app.py writes the QUEUED record there, and hops off the event loop."""
    assert "producer_or_acquire" in inspect.getsource(BaseCelery.send_task)


def test_tasks_are_made_of_functions_in_one_place() -> None:
    """jobs/celery_app.py sees to their base there, also to that of tasks shared by libraries."""
    assert parameters(BaseCelery._task_from_fun)[:4] == ["self", "fun", "name", "base"]
    assert "._task_from_fun(fun, **opts)" in inspect.getsource(BaseCelery.task)
    assert "._task_from_fun(" in inspect.getsource(shared_task)


def test_errbacks_are_called_in_one_place() -> None:
    """worker/backend.py has them run as bodies there, and puts off those of a chord."""
    backend: Any = RedisBackend
    source = inspect.getsource(backend._call_task_errbacks)
    assert "errback(request, exc, traceback)" in source
    assert parameters(backend._call_task_errbacks) == ["self", "request", "exc", "traceback"]
    assert "self._call_task_errbacks(" in inspect.getsource(backend.mark_as_failure)
    assert "self._call_task_errbacks(" in inspect.getsource(backend.chord_error_from_stack)


def test_billiards_exception_info_reads_the_error_being_handled() -> None:
    """worker/running.py makes them."""
    try:
        raise ValueError("seen")  # noqa: TRY301
    except ValueError:
        assert "seen" in str(ExceptionInfo().exception)


def test_a_greenlet_may_share_the_context_of_its_parent() -> None:
    """worker/bridge.py: what either side sets is seen by both."""
    color: ContextVar[str] = ContextVar("color")

    def outside() -> str:
        child = greenlet(lambda: color.set("red"))
        child.gr_context = getcurrent().gr_context
        child.switch()
        return color.get()

    assert copy_context().run(outside) == "red"
