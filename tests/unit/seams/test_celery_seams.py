"""Pins what the worker leans on in Celery, Kombu, billiard and greenlet: none of it is promised.

When one of these fails after an upgrade, the code that its docstring names has to be looked at.
"""

import inspect
import sys
import threading
from contextvars import ContextVar, copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import click
import pytest
from billiard.einfo import ExceptionInfo
from billiard.pool import Pool
from celery import Celery, Task, bootsteps, shared_task, signals
from celery import _state as celery_state
from celery._state import _task_stack  # type: ignore[attr-defined]  # not in celery-types
from celery.app import trace
from celery.app.amqp import AMQP
from celery.app.base import Celery as BaseCelery
from celery.app.defaults import DEFAULTS, SETTING_KEYS
from celery.app.task import Context
from celery.app.trace import TraceInfo, build_tracer, fast_trace_task
from celery.apps.worker import on_cold_shutdown  # type: ignore[attr-defined]  # not in celery-types
from celery.backends.base import Backend
from celery.backends.redis import RedisBackend
from celery.bin.worker import worker as worker_command
from celery.concurrency.base import BasePool
from celery.concurrency.prefork import _run_ready_callbacks  # type: ignore[attr-defined]
from celery.events import EventDispatcher
from celery.events.event import group_from
from celery.exceptions import Reject
from celery.local import Proxy
from celery.utils.collections import ConfigurationView
from celery.utils.log import ColorFormatter
from celery.utils.threads import LocalManager, LocalStack
from celery.worker import WorkController, components, control, state, strategy
from celery.worker.consumer import Consumer, Gossip, Heart, Mingle
from celery.worker.request import Request
from greenlet import getcurrent, greenlet
from kombu.asynchronous import Hub
from kombu.message import Message
from kombu.transport.virtual import Message as VirtualMessage
from werkzeug.local import LocalProxy

from service import create_app, get_celery
from service.worker import log_records


def test_the_current_app_may_be_a_proxy() -> None:
    """service/jobs/celery/current.py makes one the process's default, by Celery's own methods.

    If they check what they are given, give them a Celery object whose attributes are looked up.
    """
    before: Any = vars(celery_state)["default_app"]
    finalizers: Any = vars(celery_state)["_on_app_finalizers"]
    shared = {*finalizers}
    app = Celery("one", set_as_current=False)
    proxy: Any = Proxy(lambda: app)
    try:
        Celery.set_default(proxy)
        assert in_thread(lambda: celery_state.get_current_app().main) == "one"
        task = shared_task(name="seams.current")(no_body)
        assert in_thread(lambda: task.app is app)
    finally:
        Celery.set_default(before)
        finalizers.intersection_update(shared)  # else each app that is made later has the task


def test_a_worker_has_the_options_that_leave_parts_of_it_out() -> None:
    """service/broker/celery_worker.py reads them at `worker_init`: a worker that does not broadcast
    may do without the right to publish. If they are elsewhere, read them there.
    """
    source = inspect.getsource(WorkController.setup_instance)
    assert source.index("self.options = kwargs") < source.index("worker_init.send(sender=self)")
    # worker/gossip.py changes them in a step of the worker: they are read when all are made.
    assert "worker_options=w.options" in inspect.getsource(components.Consumer.create)
    apply = inspect.getsource(bootsteps.Blueprint.apply)
    assert apply.index("step = S(parent") < apply.index("step.include(parent)")
    for step in (Mingle, Gossip, Heart):
        assert f"without_{'heartbeat' if step is Heart else step.__name__.lower()}" in (
            inspect.signature(step).parameters
        )


def in_thread(function: Any) -> Any:
    """What it returns in a thread, in which no app was made current."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def no_body() -> None:
    """A task's body."""


def test_what_binding_has_put_into_a_task_class_stands_behind_its_mark() -> None:
    """service/jobs/celery/existing.py tells by it what a task says itself.

    If it fails, find another way to have a task that was bound take the new configuration.
    """
    app = Celery("one", set_as_current=False)
    task: Any = app.task(acks_late=False, lazy=False, shared=False)(no_body)
    names = [*vars(type(task))]
    mark = names.index("__bound__")
    assert names.index("acks_late") < mark < names.index("track_started")
    assert {("acks_late", "task_acks_late"), ("track_started", "task_track_started")} <= {
        *task.from_config
    }
    again: Any = type("Again", (type(task),), {"track_started": None})
    app.conf.task_track_started = True
    again.bind(app)
    assert again.track_started is True


def test_the_last_of_an_apps_settings_are_celerys_defaults() -> None:
    """service/jobs/celery/existing.py finds there what a user has set, in whatever way.

    If they are elsewhere, take all that differs from celery.app.defaults.
    """
    app = Celery("one", set_as_current=False, broker="redis://one")
    app.config_from_object({"X_TASK_ACKS_LATE": False}, namespace="X")
    conf: Any = app.conf
    assert conf.task_acks_late is False
    assert "task_acks_late" in conf.defaults[-1]
    given = ConfigurationView(conf.changes, conf.defaults[:-1], conf._keys, conf.prefix)
    assert {name for name in SETTING_KEYS if name in given} == {"broker_url", "task_acks_late"}


def test_autoretry_keeps_the_body_that_it_wraps() -> None:
    """service/jobs/celery/existing.py drops both, to have it wrap the new body.

    If it keeps it elsewhere, drop that.
    """
    app = Celery("one", set_as_current=False)
    task: Any = app.task(autoretry_for=(OSError,), lazy=False, shared=False)(no_body)
    assert {"run", "_orig_run"} <= vars(task).keys()


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_tracer_takes_name_id_and_request_first() -> None:
    """worker/pool/job.py reads a job's task, id and request from the arguments of a pool.

    If the order is another, read them there from where the tracer does.
    """
    assert parameters(fast_trace_task)[:4] == ["task", "uuid", "request", "body"]


def test_the_tracer_has_its_jobs_id_in_a_variable() -> None:
    """worker/pool/stacks/frames.py finds the thread that runs a job by it.

    If it has another name, look for that one.
    """
    task = shared_task(name="seams.traced")(no_body)
    tracer = build_tracer(task.name, task, app=Celery("one", set_as_current=False)).__code__
    assert tracer.co_name == "trace_task"
    assert "uuid" in tracer.co_varnames


def test_billiard_numbers_its_children_from_0() -> None:
    """worker/pool/stacks/children.py keeps a pair of sockets for each number.

    If they are numbered otherwise, have each child tell its parent which pair is its own.
    """
    pool: Any = Pool
    assert "w.index = i" in inspect.getsource(pool._create_worker_process)
    assert "range(self._processes)" in inspect.getsource(pool._avail_index)


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


def test_a_cold_shutdown_stops_the_pool_in_the_signal_handler_when_its_flag_is_set() -> None:
    """worker/pool/pool.py does not wait in `on_stop` then: Celery terminates the pool later.

    If the order is another, find another way to tell that call from the others.
    """
    source = inspect.getsource(on_cold_shutdown)
    assert 0 < source.index("should_terminate = True") < source.index("pool.stop()")
    source = inspect.getsource(components.Pool.terminate)
    assert "pool.terminate()" in source


def test_a_request_is_cancelled_with_or_without_a_retry() -> None:
    """worker/task/request.py has no retry announced of a job whose message goes back.

    If the parameter is gone, have no RETRY recorded in another way, or the job does not run again.
    """
    assert parameters(Request.cancel) == ["self", "pool", "signal", "emit_retry"]


def test_all_steps_are_closed_before_one_is_stopped() -> None:
    """worker/loop/lifespan.py stops the pool when it is closed; StopLimit asks `shutdown_complete`.

    If not, stop the pool where the consumer has not taken leave of the broker yet.
    """
    done: list[str] = []

    class Noting(bootsteps.StartStopStep):
        def start(self, parent: Any) -> None:
            pass

        def close(self, parent: Any) -> None:
            done.append(f"close {self.alias}")

        def stop(self, parent: Any) -> None:
            done.append(f"stop {self.alias}")

    class First(Noting):
        label = "first"

    class Last(Noting):
        label = "last"
        requires = (First,)

    parent: Any = SimpleNamespace(steps=[])
    blueprint = bootsteps.Blueprint({First, Last})
    blueprint.apply(parent)
    blueprint.start(parent)
    blueprint.stop(parent)
    assert done == ["close first", "close last", "stop last", "stop first"]
    assert blueprint.shutdown_complete.is_set()


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
    """worker/backend/backend.py overrides them, to store by script and to keep off the event loop.

    If one is not called, results are stored past the script: override what is called in its place.
    """
    assert parameters(RedisBackend.store_result)[1:6] == [
        *("task_id", "result", "state", "traceback", "request"),
    ]
    for method in ("_ensure_retryable", "ensure", "on_chord_part_return", "encode_result"):
        assert callable(getattr(RedisBackend, method))
    assert "self.store_result(" in inspect.getsource(RedisBackend.mark_as_done)


def test_a_key_is_what_celery_makes_of_an_id() -> None:
    """worker/backend/backend.py makes it by itself, which is cheaper.

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


def test_every_signature_of_a_task_is_made_in_one_place() -> None:
    """Else arguments are not made JSON in a canvas: see worker/task/typed.py."""
    for method in (Task.s, Task.si, Task.signature_from_request):
        assert "signature" in method.__code__.co_names
    assert Task.subtask is Task.signature
    assert list(inspect.signature(Task.signature).parameters)[:2] == ["self", "args"]


def test_tasks_are_made_of_functions_in_one_place() -> None:
    """jobs/celery/app.py sees to their base there, also to that of tasks shared by libraries.

    If not, tasks of libraries run outside of the app context: override what makes them.
    """
    assert parameters(BaseCelery._task_from_fun)[:4] == ["self", "fun", "name", "base"]
    assert "._task_from_fun(fun, **opts)" in inspect.getsource(BaseCelery.task)
    assert "._task_from_fun(" in inspect.getsource(shared_task)


def test_errbacks_are_called_in_one_place() -> None:
    """worker/backend/canvas.py has them run as bodies there.

    If they are called elsewhere, an `async def` errback never runs: override that call.
    """
    backend: Any = RedisBackend
    source = inspect.getsource(backend._call_task_errbacks)
    assert "errback(request, exc, traceback)" in source
    assert parameters(backend._call_task_errbacks) == ["self", "request", "exc", "traceback"]


def test_a_chord_that_fails_comes_to_these() -> None:
    """worker/backend/canvas.py ends its body there, once the count-down is done.

    If one is missing, bodies are ended by Celery, with nothing around them: compare what Celery
    calls when the last part of a header has ended, and what it deletes then.
    """
    source = inspect.getsource(RedisBackend.on_chord_part_return)
    assert source.count("return self.chord_error_from_stack(") == 3
    assert source.count("client.delete(skey)") == 2
    assert "skey = self.get_key_for_group(gid, '.s')" in source
    assert "ckey = self.get_key_for_group(gid, '.c')" in source
    assert parameters(RedisBackend.chord_error_from_stack) == ["self", "callback", "exc"]


def test_who_ends_a_job_without_success_marks_it() -> None:
    """backend/canvas.py ends the rest of its canvas there; worker/task has what is not marked.

    If Celery marks an Ignore or an unknown task by itself, or a replacement does not pass
    `on_replace`, what worker/task/base.py and `_end_rest_of_unknown` do is done twice, or wrongly.
    """
    assert "self.on_replace(sig)" in inspect.getsource(Task.replace)
    assert "backend" not in inspect.getsource(TraceInfo.handle_ignore)
    request: Any = Request
    assert "mark_as_revoked(" in inspect.getsource(request._announce_revoked)
    assert "self._success_was_stored()" in inspect.getsource(Request.on_failure)
    assert "chord=None" in inspect.getsource(Consumer.on_unknown_task)
    assert "request.terminate(" in inspect.getsource(control._revoke)  # type: ignore[attr-defined]


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
    """worker/backend/backend.py writes records by itself, but with Celery's meta and its TTL.

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


def test_what_follows_the_end_of_a_job_comes_in_this_order() -> None:
    """worker/task/wanted.py makes up for what comes after the storing of a state, and only for it.

    If callbacks are sent after SUCCESS is stored, or a retry after RETRY, send them there too. If a
    chord counts a part as often as it is told, ask first whether it has.
    """
    source = inspect.getsource(trace.build_tracer)
    assert source.index("callbacks_sent = True") < source.index("task.backend.mark_as_done(")
    retry = inspect.getsource(Task.retry)
    assert retry.index("S.apply_async()") < retry.index("raise ret\n        return ret")
    failing = inspect.getsource(Backend.mark_as_failure)
    assert failing.index("self.store_result(") < failing.index("self.on_chord_part_return(")
    assert failing.index("self.store_result(") < failing.index("self._call_task_errbacks(")
    script = inspect.getsource(sys.modules[RedisBackend.__module__])
    assert "if redis.call('SISMEMBER', dkey, member) == 0 then" in script


def test_a_task_says_whether_its_failures_are_acknowledged() -> None:
    """worker/task/wanted.py asks by these names, which are Celery's settings.

    If they are called otherwise, jobs that failed are given back to a queue, and never run there.
    """
    task: Any = get_celery(create_app()).tasks["celery.chord"]
    assert (task.acks_on_failure, task.acks_on_timeout) == (True, True)


def test_the_log_of_a_worker_is_set_up_as_we_augment_it() -> None:
    """worker/log_records.py gives the handlers of Celery's set-up another formatter.

    If this changes, look there at how Celery makes its formatter and at its default format.
    """
    assert "%(message)s" in DEFAULTS["worker_log_format"]
    assert parameters(ColorFormatter) == ["fmt", "use_color", "datefmt"]


def test_celery_tells_of_the_end_of_a_job_in_these_words() -> None:
    """worker/log_records.py knows by them which line is to have the figures of an end.

    If one is worded otherwise, its line has none: write the new words there. The words that are
    ours are not Celery's. `_announce_revoked` sends the signal by which that line is written.
    """
    assert trace.logger.name == log_records._TRACER
    tracing = inspect.getsource(trace)
    assert all(f"'{name}': " in tracing for name in ("id", "name", "runtime"))
    source = inspect.getsource(Request)
    missing = [words for words in log_records._ENDS_OUTSIDE if f"'{words}'" not in source]
    assert missing == ["Task %s[%s] was terminated"]
    assert "send_revoked(self.task, request=self._context" in source


def test_all_acknowledgements_go_by_the_consumers_own_method() -> None:
    """service/broker/transport/consumer.py makes them at once; what else it calls is left alone."""
    source = inspect.getsource(Consumer.create_task_handler)
    assert source.count("(message.ack_log_error,)") == source.count("(message.reject_log_error,)")
    assert source.count("call_soon_ack,") == 2
    assert "self.hub.call_soon(p)" in inspect.getsource(vars(Consumer)["call_soon_ack"])


def test_events_of_tasks_are_a_group_of_their_own() -> None:
    """service/worker/task/request.py sends none where a worker has groups, and not this one."""
    assert "if groups and group not in groups:" in inspect.getsource(EventDispatcher.send)
    assert "dispatcher.groups.add('task')" in inspect.getsource(vars(control)["enable_events"])
    assert group_from("task-started") == "task"


def test_the_consumer_has_the_parts_that_ours_replaces() -> None:
    """service/worker/rabbitmq/consumer.py: the step that delays jobs, and what it is asked for."""
    delays = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
    assert delays in Consumer.Blueprint.default_steps
    for name in ("create_task_handler", "on_close", "on_connection_error_after_connected"):
        assert callable(getattr(Consumer, name))
    source = inspect.getsource(Consumer.on_connection_error_after_connected)
    assert "request.cancel(self.pool)" in source  # which Request.cancel declines for kept jobs
    assert {"worker_consumer", "task_default_queue_type"} <= SETTING_KEYS


def test_one_method_makes_what_sends_the_messages_of_an_app() -> None:
    """AMQP in jobs/celery/connections.py wraps it, to know a message as no receiver has changed it.

    If this breaks, find where Celery sends `before_task_publish`, and note the message before that.
    """
    app = Celery(set_as_current=False)
    made: list[Any] = []

    class Amqp(AMQP):
        def _create_task_sender(self) -> Any:
            made.append(super()._create_task_sender())  # type: ignore[misc]  # not in celery-types
            return made[-1]

    amqp: Any = Amqp(app)
    assert amqp.send_task_message is made[0]
    named = list(inspect.signature(made[0]).parameters)
    assert named[:3] == ["producer", "name", "message"]
    assert {"exchange", "routing_key", "headers", "declare", "retry_policy"} <= {*named}
    message = amqp.as_task_v2("an id", "a task")
    assert (message.headers["id"], message.properties["correlation_id"]) == ("an id", "an id")
