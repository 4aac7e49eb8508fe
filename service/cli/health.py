"""`service health`: says whether a worker is healthy, by its heartbeat file.

Kubernetes asks again and again, so that this module imports little, and no click.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

_MAX_AGE = 30.0  # seconds; a worker writes every 5
_VARIABLE = "SERVICE_HEALTH_FILE"


def health(arguments: Sequence[str]) -> int:
    """Say in a sentence whether a worker is healthy, by the age of its heartbeat file: 0 or 1."""
    about = "Say whether a worker is healthy, by its heartbeat file; exit with 0, or with 1."
    parser = argparse.ArgumentParser(prog="service health", description=about)
    parser.add_argument(
        "--file", default=os.environ.get(_VARIABLE, ""), help=f"its file; default: ${_VARIABLE}"
    )
    parser.add_argument(
        "--max-age",
        type=float,
        default=_MAX_AGE,
        metavar="SECONDS",
        help=f"how old the file may be; default: {_MAX_AGE:g}",
    )
    given = parser.parse_args(arguments)
    if not given.file:
        parser.error(f"name the file by --file or {_VARIABLE}, which the worker needs, too")
    is_healthy, sentence = _judge(given.file, given.max_age)
    sys.stdout.write(f"{sentence}\n")
    return 0 if is_healthy else 1


def _judge(path: str, max_age: float) -> tuple[bool, str]:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  pathlib takes a while to import
            name = file.read().strip()
            age = max(0.0, time.time() - os.fstat(file.fileno()).st_mtime)
    except OSError as error:
        why = error.strerror or type(error).__name__
        return False, f"No worker has a heartbeat in {path}: {why}."
    if age > max_age:
        return False, f"The worker {name} is not healthy: its last heartbeat is {age:.0f} s old."
    return True, f"The worker {name} is healthy: its last heartbeat is {age:.0f} s old."
