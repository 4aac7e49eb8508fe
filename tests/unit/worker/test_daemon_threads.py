"""The threads of sync bodies: no more than asked for, reused, and not to be waited for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

import pytest

from service.worker.loop.daemon_threads import DaemonThreads
from tests.support.wait import wait_until


def test_threads_are_reused_and_limited() -> None:
    """One call after the other needs one thread; a hundred at once get the limit."""
    threads = DaemonThreads(4, name="limited", call_later=never)
    for _ in range(10):
        threads.submit(threading.get_ident).result(5)
    assert count("limited") < 4
    used = {f.result(5) for f in [threads.submit(threading.get_ident) for _ in range(100)]}
    assert 1 <= len(used) <= 4
    threads.shutdown()
    wait_until(lambda: count("limited") == 0, description="the threads have ended")


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    """StopIteration as another one: no asyncio future can carry it."""
    threads = DaemonThreads(1, name="raising", call_later=never)
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(5)
    with pytest.raises(RuntimeError, match="StopIteration"):
        threads.submit(next, iter(())).result(5)
    threads.shutdown()


def test_a_lost_thread_is_counted_until_its_call_returns() -> None:
    """A thread can't be stopped; what can be done is to say so."""
    threads = DaemonThreads(2, name="lost", call_later=never)
    release = threading.Event()
    call: Future[bool] = threads.submit(release.wait)
    threads.lose(call)
    assert threads.lost == 1
    release.set()
    wait([call], 5)
    wait_until(lambda: threads.lost == 0, description="the thread is found")
    threads.shutdown()


def test_a_call_waits_until_a_thread_can_be_started() -> None:
    """Nothing is raised: a call that is in the queue would be made all the same, later."""
    retries: list[Callable[[], None]] = []
    threads = DaemonThreads(4, name="refused", call_later=lambda _, retry: retries.append(retry))
    before = threading.stack_size(1 << 46)  # no address space has room for it
    try:
        calls = [threads.submit(threading.get_ident) for _ in range(8)]
        retries.pop()()
        assert not any(call.done() for call in calls)
        assert len(retries) == 1
    finally:
        threading.stack_size(before)
    retries.pop()()
    assert len({call.result(5) for call in calls}) <= 4
    assert not retries
    threads.shutdown()


def test_a_refused_thread_is_made_up_for_while_others_run() -> None:
    """A call does not wait for a busy thread when a new one can be had."""
    retries: list[Callable[[], None]] = []
    threads = DaemonThreads(2, name="second", call_later=lambda _, retry: retries.append(retry))
    release = threading.Event()
    busy = threads.submit(release.wait)
    before = threading.stack_size(1 << 46)
    try:
        waiting = threads.submit(threading.get_ident)
    finally:
        threading.stack_size(before)
    retries.pop()()
    assert waiting.result(5)
    assert not busy.done()
    release.set()
    threads.shutdown()


def never(seconds: float, function: Callable[[], None]) -> None:
    """Nothing is to be tried again in these tests."""
    del function
    raise AssertionError(f"something is to be called in {seconds} s")


def count(name: str) -> int:
    return sum(thread.name.startswith(f"{name}-") for thread in threading.enumerate())
