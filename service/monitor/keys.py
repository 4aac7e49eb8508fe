"""The names that the monitor's records have in Redis; all expire."""

from typing import Final

RECENT: Final = "service:recent-jobs"  # stream: `n` counts the rows so far, `rows` has some JobRows
WORKERS: Final = "service:workers"  # hash: a worker's name to its WorkerStatus
SEEN: Final = "service:workers:seen"  # sorted set: a worker's name by when it last reported


def stats_key(bucket: int) -> str:
    """The hash of one bucket of counts."""
    return f"service:stats:{bucket}"


def mark_key(mark: str) -> str:
    """What tells that a report was taken."""
    return f"service:reported:{mark}"
