"""The names that the monitor's records have in Redis; all expire."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MonitorKeys:
    """`prefix` is on all of them, so that services which share a Redis do not mix their figures."""

    prefix: str = ""

    @property
    def recent(self) -> str:
        """A stream: `n` counts the rows so far, `rows` has some JobRows."""
        return f"{self.prefix}service:recent-jobs"

    @property
    def workers(self) -> str:
        """A hash: a worker's name to its WorkerStatus."""
        return f"{self.prefix}service:workers"

    @property
    def seen(self) -> str:
        """A sorted set: a worker's name by when it last reported."""
        return f"{self.prefix}service:workers:seen"

    def stats(self, bucket: int) -> str:
        """The hash of one bucket of counts."""
        return f"{self.prefix}service:stats:{bucket}"

    def mark(self, report: str) -> str:
        """What tells that a report was taken."""
        return f"{self.prefix}service:reported:{report}"
