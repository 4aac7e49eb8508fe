"""Pins what reading a canvas, and waiting for results, lean on in Celery: none of it is promised.

When one of these fails after an upgrade, the code that its docstring names has to be looked at.
"""

import inspect
from typing import Any

import msgspec
from celery.app.control import Control, Inspect
from celery.app.task import Task
from celery.backends.redis import RedisBackend
from celery.concurrency.base import BasePool
from celery.result import AsyncResult, ResultSet

from tests.support.valkey import Valkey


def test_waiting_for_results_ends_in_the_backend() -> None:
    """worker/backend/waiting.py waits on the event loop where Celery calls these two.

    If they are called elsewhere, override what is called there; `_ended` takes the options that
    both are given, and fills the cache of a result as Celery's consumer does.
    """
    assert "self.backend.wait_for_pending(" in inspect.getsource(AsyncResult.get)
    assert "self.backend.iter_native(" in inspect.getsource(ResultSet.iter_native)
    assert "self.on_ready(self)" in inspect.getsource(AsyncResult._maybe_set_cache)  # type: ignore[attr-defined]
    assert BasePool.task_join_will_block is True


def test_all_that_asks_the_workers_ends_in_one_method() -> None:
    """jobs/celery/app.py makes `broadcast` and `purge` in a thread.

    If another method of Control asks for a connection, override it there, too.
    """
    asks = [
        name
        for name, method in vars(Control).items()
        if inspect.isfunction(method) and "connection_or_acquire" in inspect.getsource(method)
    ]
    assert sorted(asks) == ["broadcast", "discard_all", "purge"]
    assert "self.app.control.broadcast(" in inspect.getsource(Inspect._request)
    assert "default_dispatcher(" in inspect.getsource(Task.send_event)


def test_what_reading_a_chord_stores_goes_through_ensure() -> None:
    """worker/backend/backend.py keeps these calls for the enqueuer while a canvas is read.

    If they go another way, keep them there: reading must not wait for Redis.
    """
    for method in (RedisBackend.set_chord_size, RedisBackend._set_chord_key):  # type: ignore[attr-defined]
        assert "self.ensure(" in inspect.getsource(method)
    assert "self._set_chord_key(" in inspect.getsource(RedisBackend.apply_chord)


def test_redis_reads_what_msgspec_packs(valkey: Valkey) -> None:
    """jobs/sending/journal.py packs what apply.lua unpacks: text and numbers, no bytes.

    If one of them changes its format, pack in Lua.
    """
    packed: list[Any] = ["", "x" * 40, "ü" * 300, "y" * 70_000, 1, 86_400]
    script = "return cmsgpack.unpack(ARGV[1])"
    with valkey.client() as redis:
        connection: Any = redis.connection_pool.connection_kwargs
        connection["decode_responses"] = False
        found: Any = redis.eval(script, 0, msgspec.msgpack.encode(packed))
    read = [each if isinstance(each, int) else bytes(each) for each in found]
    assert read == [each.encode() if isinstance(each, str) else each for each in packed]
