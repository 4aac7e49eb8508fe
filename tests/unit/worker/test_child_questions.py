"""Prefork's parent passes a question to the child that runs the job."""

from types import SimpleNamespace
from typing import Any

from celery import signals
from celery.concurrency.prefork import TaskPool

from service.worker.pool.stacks.children import ChildQuestionsStep


def test_a_child_that_does_not_hear_is_told_from_one_that_was_late() -> None:
    """Nobody waits longer for a child that is stuck, and what it has heard late harms nothing."""
    conf = SimpleNamespace(worker_enable_remote_control=True)
    worker: Any = SimpleNamespace(
        app=SimpleNamespace(conf=conf), pool_cls=TaskPool, max_concurrency=None, min_concurrency=1
    )
    step = ChildQuestionsStep(worker)
    assert step.include_if(worker)
    step.create(worker)
    signals.worker_process_init.disconnect(step._listen)
    children = [SimpleNamespace(pid=7, index=0), SimpleNamespace(pid=8, index=1)]
    pool = SimpleNamespace(_pool=SimpleNamespace(_pool=children))
    assert not step.ask(pool, 7, "job", "first")
    assert not step.ask(pool, 8, "job", "to a child that was added")
    assert not step.ask(pool, 9, "job", "to one that has ended")
    ((ours, theirs),) = step._pairs
    theirs.send(b"first")
    theirs.send(b"second")
    assert step.ask(pool, 7, "job", "second")
    ours.close()
    theirs.close()
