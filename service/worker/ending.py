"""Whether the worker has been told to end, as Celery's own flags say."""

from typing import Any

from celery.worker import state


def must_end() -> bool:
    """Whether the worker is to take no more jobs."""
    return _is_set(state.should_stop) or must_end_at_once()


def must_end_at_once() -> bool:
    """Whether it is to wait for none either (a cold shutdown)."""
    return _is_set(state.should_terminate)


def _is_set(flag: Any) -> bool:
    return flag is not None and flag is not False  # 0 is an exit code, and means yes
