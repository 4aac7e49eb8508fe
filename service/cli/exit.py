"""Ends a process with a sentence in place of a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ServiceError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with 1 and a message where a ServiceError is raised."""
    try:
        yield
    except ServiceError as error:
        sys.stderr.write(f"service: {error}\n")
        sys.exit(1)
