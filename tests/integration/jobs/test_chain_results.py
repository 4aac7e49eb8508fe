"""A chain is waited for by Celery's own `get`, which raises what a step before the last one did."""

import asyncio
from typing import Any

import pytest
from celery.exceptions import ChordError
from celery.result import AsyncResult

from service import get_celery
from service.testing import JobRunner


class _FailsAfterItWasLookedAt(AsyncResult):  # type: ignore[type-arg]  # celery-types: generic
    """A step that fails, and the last one with it, once `get` has seen that it has not failed."""

    last: Any = None

    def maybe_throw(self, *args: Any, **options: Any) -> Any:
        value = super().maybe_throw(*args, **options)
        if self.last is not None:
            failed, self.last = self.last, None
            self.backend.store_result(self.id, ValueError("its own"), "FAILURE")
            self.backend.store_result(failed, ChordError("of the header"), "FAILURE")
        return value


async def test_the_error_of_a_header_is_raised_whenever_it_comes(jobs: JobRunner) -> None:
    """Also if it comes between the look at the parents and the subscription to the last result."""
    celery = get_celery(jobs.app)
    header = _FailsAfterItWasLookedAt("header-that-fails", app=celery)
    last: Any = AsyncResult("body-of-it", app=celery, parent=header)
    header.last = last.id
    with pytest.raises(ValueError, match="its own"):
        await asyncio.to_thread(last.get, timeout=45)
