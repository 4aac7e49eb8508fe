"""The threads of sync bodies: no more than asked for, reused, and not to be waited for."""

import threading
from concurrent.futures import Future, wait

import pytest

from service.worker.loop.daemon_threads import DaemonThreads
from tests.support.wait import wait_until


def test_threads_are_reused_and_limited() -> None:
    """One call after the other needs one thread; a hundred at once get the limit."""
    threads = DaemonThreads(4, name="limited")
    for _ in range(10):
        threads.submit(threading.get_ident).result(5)
    assert count("limited") < 4
    used = {f.result(5) for f in [threads.submit(threading.get_ident) for _ in range(100)]}
    assert 1 <= len(used) <= 4
    threads.shutdown()
    wait_until(lambda: count("limited") == 0, description="the threads have ended")


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    """StopIteration as another one: no asyncio future can carry it."""
    threads = DaemonThreads(1, name="raising")
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(5)
    with pytest.raises(RuntimeError, match="StopIteration"):
        threads.submit(next, iter(())).result(5)
    threads.shutdown()


def test_a_lost_thread_is_counted_until_its_call_returns() -> None:
    """A thread can't be stopped; what can be done is to say so."""
    threads = DaemonThreads(2, name="lost")
    release = threading.Event()
    call: Future[bool] = threads.submit(release.wait)
    threads.lose(call)
    assert threads.lost == 1
    release.set()
    wait([call], 5)
    wait_until(lambda: threads.lost == 0, description="the thread is found")
    threads.shutdown()


def count(name: str) -> int:
    return sum(thread.name.startswith(f"{name}-") for thread in threading.enumerate())
