"""Tells what Celery's worker in this process does with the messages that it was given.

Like `celery.worker.state`, which most of it is read from, this is the state of a process.
"""

import os
from collections.abc import Iterable
from typing import Any, Final

from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.signals import task_rejected, task_unknown, worker_init, worker_ready
from celery.worker import state

# Descriptors that a worker opens from its connection on: 13 to 15 with any pool, counted in
# /proc/<pid>/fd.
_NEEDED: Final = 16

_ready: list[Any] = []
_options: list[dict[str, Any]] = []
# Each of these parts of Celery's worker publishes, as long as an option does not leave it out.
_TALKATIVE: Final = ("mingle", "gossip", "heartbeat")


@worker_ready.connect(dispatch_uid="service.broker.worker_ready")
def _remember(sender: Any, **_: Any) -> None:
    _ready.append(sender)


@worker_init.connect(dispatch_uid="service.broker.worker_init")
def _remember_options(sender: Any, **_: Any) -> None:
    _options.append(sender.options)  # as it is: parts of the worker may change it yet


def require_descriptors() -> None:
    """Raise OSError (EMFILE, ENFILE) unless the worker's connections can be opened.

    A worker that can open only some of its connections drops them all, and tries again for ever.
    """
    opened: list[int] = []
    try:
        while len(opened) < _NEEDED:
            opened += os.pipe()
    except OSError as error:
        what = (
            f"{error.strerror}. Raise the limit (`ulimit -n`), or look for what leaves files open"
        )
        raise OSError(error.errno, what) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def has_to_publish() -> bool:
    """Whether the worker that starts or runs here ends where it may not publish broadcasts."""
    parts = (f"without_{part}" for part in _TALKATIVE)
    return bool(_options) and not all(_options[-1].get(part) for part in parts)


def is_worker() -> bool:
    """Whether a worker runs here, even one that was told to stop."""
    return bool(_ready)


def is_serving() -> bool:
    """Whether a worker runs here and will go on running after a lost connection."""
    return is_worker() and not is_stopping()


def jobs_share_a_process() -> bool:
    """Whether a job that ends its process takes other jobs of this worker along."""
    return not (_ready and isinstance(_ready[-1].pool, PreforkPool))


def is_stopping() -> bool:
    """Whether this process was told to end, warmly or at once, so that it takes no more jobs."""
    return _is_set(state.should_stop) or is_stopping_at_once()


def is_stopping_at_once() -> bool:
    """Whether this process was told to end without waiting for its jobs (a cold shutdown)."""
    return _is_set(state.should_terminate)


def running() -> set[str]:
    """The tags of the messages whose jobs run at this moment."""
    return {str(request.message.delivery_tag) for request in all_of(state.active_requests)}


def reserved() -> dict[str, Any]:
    """Requests that the pool was given, by tag; it may not have started them yet."""
    requests = all_of(state.reserved_requests)
    return {str(request.message.delivery_tag): request for request in requests}


def all_of(requests: Any) -> tuple[Any, ...]:
    """The members of one of Celery's sets of requests, which the main thread may change."""
    while True:
        try:
            return tuple(requests)
        except RuntimeError:  # "Set changed size during iteration"
            continue


def keep_from_flush(requests: Iterable[Any]) -> None:
    """Have the prefork pool keep the jobs that it has sent to a child.

    After a loss Celery flushes that pool: it drops the jobs that no child has accepted. But a
    child may have begun one whose acceptance is still on its way. If that were dropped and
    returned, it would run here and elsewhere. So a job that a living child was sent counts as
    accepted.
    """
    for request in requests:
        result = _pool_result_of(request)
        child = getattr(result, "_write_to", None)
        if result is not None and child is not None and child._is_alive():  # noqa: SLF001 - billiard
            result._accepted = True  # noqa: SLF001


def may_still_run(request: Any) -> bool:
    """Whether a request that the pool was given before a connection was lost will run.

    It will not if the flush has dropped it; pools without a flush run all that they were given.
    While the main thread waits for Redis, Celery does not learn which jobs have begun or ended, so
    the pool is asked whether it still has the request.
    """
    if request in state.active_requests:
        return True
    result = _pool_result_of(request)
    if result is None:
        return False
    if (is_over := getattr(result, "is_over", None)) is not None:
        return not is_over  # of the asyncio pool; other things may refer to its call
    cache = getattr(result, "_cache", None)
    if cache is not None:
        child = result._write_to  # noqa: SLF001 - billiard has no public names for these
        return result._job in cache and child is not None and bool(child._is_alive())  # noqa: SLF001
    future = getattr(result, "f", None)
    return future is None or not future.done()


def began(request: Any) -> None:
    """Say that a request's job runs: its message is only needed in Redis from now on."""
    if leases := _leases_of(request.message):
        leases.in_flight.drop_message(request.message.delivery_tag, request.id)


def gives_message_back(request: Any) -> bool:
    """Return a request's message if the lease on it may be over; whether it was returned."""
    leases = _leases_of(request.message)
    return bool(leases and leases.gives_back(request.message.delivery_tag))


def _leases_of(message: Any) -> Any:
    """The leases of a message's channel; None if the message came by another transport."""
    return getattr(getattr(message.channel, "qos", None), "leases", None)


def _pool_result_of(request: Any) -> Any:
    reference = getattr(request, "_apply_result", None)
    return reference() if reference is not None else None


def _is_set(flag: Any) -> bool:
    return flag is not None and flag is not False  # 0 is an exit code, and means yes


def _explain_rejection(message: Any, reason: str) -> None:
    if _leases_of(message):
        message.channel.qos.explain(message.delivery_tag, reason)


@task_unknown.connect(dispatch_uid="service.broker.task_unknown")
def _on_unknown(message: Any, name: str, **_: Any) -> None:
    _explain_rejection(message, f"No task of this worker is named {name!r}.")


@task_rejected.connect(dispatch_uid="service.broker.task_rejected")
def _on_rejected(message: Any, exc: BaseException | None, **_: Any) -> None:
    _explain_rejection(
        message, f"The message is no job that this worker can run: {exc or 'unknown form'}."
    )
