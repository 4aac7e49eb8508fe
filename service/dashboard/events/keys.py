"""Names the keys of the dashboard in Redis. All of them expire."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DashboardKeys:
    """`prefix` begins each key, so that services that share a Redis do not mix their figures."""

    prefix: str = ""

    @property
    def recent(self) -> str:
        """Stream: `n` counts the events so far, `rows` has some of them. TTL: a result's."""
        return f"{self.prefix}service:recent-jobs"

    @property
    def workers(self) -> str:
        """Hash: a worker's name to its WorkerStatus. TTL: an hour."""
        return f"{self.prefix}service:workers"

    @property
    def seen(self) -> str:
        """Sorted set: a worker's name by when it last reported. TTL: an hour."""
        return f"{self.prefix}service:workers:seen"

    def stats(self, bucket: int) -> str:
        """Hash: the counts of one bucket. TTL: a little more than the hour that is shown."""
        return f"{self.prefix}service:stats:{bucket}"

    def mark(self, report: str) -> str:
        """String: exists if this report was taken. TTL: a minute."""
        return f"{self.prefix}service:reported:{report}"
