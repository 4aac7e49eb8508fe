"""The pool that runs jobs on the loop."""

from service.worker.pool.pool import AsyncioPool

__all__ = ["AsyncioPool"]
