"""What `service.testing` uses of Celery beyond its documented interface."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state
from celery.concurrency.base import BasePool
from celery.contrib.testing.app import setup_default_app
from celery.result import AsyncResult
from celery.utils.timer2 import Timer
from celery.worker import state

from service.testing.worker import BareConsumer


def test_a_consumer_need_not_be_started() -> None:
    """If it fails, give the Consumer in testing/worker.py what it has come to ask of its worker."""
    app = Celery("seams", broker="memory://", set_as_current=False)

    @app.task(name="seam")
    def seam() -> None: ...

    controller = SimpleNamespace(state=state, app=app, hostname="a@b", use_eventloop=False)
    given: list[object] = []
    consumer: Any = BareConsumer(
        given.append,
        app=app,
        hostname="a@b",
        timer=Timer(),
        controller=controller,
        pool=BasePool(app=app),
    )
    assert not consumer.steps
    consumer.strategies.consumer = consumer
    assert callable(consumer.strategies["seam"])
    assert app.tasks["seam"].__trace__ is not None
    with pytest.raises(KeyError):
        consumer.strategies["unknown"]
    assert callable(consumer.create_task_handler())


def test_the_current_app_comes_back() -> None:
    """If it fails, restore what was current and default before in testing/worker.py."""
    app, before = Celery("seams", set_as_current=False), _state.get_current_app()
    with setup_default_app(app):
        app.set_current()
        assert _state.get_current_app() is app
    assert _state.get_current_app() is before


def test_a_backend_knows_the_results_that_are_waited_for() -> None:
    """If it fails, find out anew in testing/worker.py whether a thread waits for a job."""
    backend: Any = Celery("seams", backend="redis://", set_as_current=False).backend
    assert not any(backend._pending_results)
    backend.result_consumer.consume_from = lambda task_id: None
    result: Any = AsyncResult("id", backend=backend)
    backend._add_pending_result("id", result)
    assert any(backend._pending_results)
