"""Gives the metrics to Prometheus: the only module that knows prometheus-client, an extra.

Names begin with `jobs_`, and units are base units. Labels are names of registered tasks, of queues,
limits and states: never an id.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from service.metrics.counts import Counts, Histogram
from service.metrics.queues import QueueReader
from service.signals import Incident, incidents

_TROUBLE: Final = {
    Incident.LEASE_LOST: ("jobs_leases_lost", "Leases of this worker that ended under its jobs."),
    Incident.RECOVERED: (
        "jobs_recoveries",
        "Jobs of workers that were gone, put back by this one.",
    ),
    Incident.BURIED: ("jobs_buried", "Messages that this worker made dead letters."),
    Incident.REDIS_ERROR: ("jobs_redis_errors", "Calls of Redis that failed in this process."),
}


class Exposition:
    """The metrics of a process; `held` gives how many of a limit, such as `streams`, are held."""

    def __init__(
        self, counts: Counts, queues: QueueReader, held: Callable[[], Mapping[str, int]]
    ) -> None:
        self._of_process = CollectorRegistry()
        self._of_process.register(_ProcessCollector(counts))
        self._all = CollectorRegistry()
        self._all.register(_ProcessCollector(counts))
        self._all.register(_WebCollector(held))
        self._all.register(_RedisCollector(queues))

    def text(self) -> tuple[bytes, str]:
        """All that a web process has, in Prometheus' text format, and its content type."""
        return generate_latest(self._all), CONTENT_TYPE_LATEST

    def serve(self, host: str, port: int, *, is_worker: bool) -> tuple[Any, threading.Thread]:
        """Serve from threads: the server and its thread. Raises OSError where the port is taken."""
        return start_http_server(port, host, self._of_process if is_worker else self._all)


class _ProcessCollector(Collector):
    """What this process did, and how it is."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """One family for each metric, its samples by task."""
        yield from _of_tasks(self._counts)
        yield _histogram(
            "jobs_event_loop_lag_seconds",
            "How late the event loop of this process was, asked twice a second.",
            {(): self._counts.lag()},
        )
        if (status := self._counts.status) is not None:
            yield Gauge("jobs_running", "Jobs that this worker runs.", status.running)
            yield Gauge("jobs_capacity", "Jobs that this worker may run at once.", status.capacity)
            held = Gauge("jobs_held", "Jobs that this worker holds, by queue.", labels=["queue"])
            for queue, many in status.deliveries.items():
                held.add_metric([queue], many)
            yield held
            if status.lease_age is not None:
                text = "Since this worker renewed its leases."
                yield Gauge("jobs_lease_age_seconds", text, status.lease_age)
        happened = incidents()
        for incident, (name, text) in _TROUBLE.items():
            yield Counter(name, text, happened[incident, ""])


class _WebCollector(Collector):
    """What clients of this web process have open, and were refused."""

    def __init__(self, held: Callable[[], Mapping[str, int]]) -> None:
        self._held = held

    def collect(self) -> Iterator[Metric]:
        """Two gauges, and a counter by limit."""
        held = self._held()
        yield Gauge("jobs_streams", "Event streams that are open.", held.get("streams", 0))
        yield Gauge(
            "jobs_waiters", "Requests that wait for a change of a job.", held.get("waiters", 0)
        )
        text = "Requests that a limit refused, by limit."
        refused = Counter("jobs_requests_refused", text, labels=["limit"])
        for (incident, limit), many in incidents().items():
            if incident is Incident.REFUSED:
                refused.add_metric([limit], many)
        yield refused


class _RedisCollector(Collector):
    """What Redis knows of all processes: the same from each web process that is asked."""

    def __init__(self, queues: QueueReader) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        """Gauges by queue."""
        reading = self._queues.read()
        yield Gauge("jobs_redis_up", "Whether Redis answered within the deadline.", reading.is_up)
        if reading.in_flight is not None:
            text = "Jobs that workers hold, of all queues."
            yield Gauge("jobs_in_flight", text, reading.in_flight)
        if not reading.queues:
            return
        length = _by_queue("jobs_queue_length", "Jobs that wait in a queue and are due.")
        scheduled = _by_queue("jobs_queue_scheduled", "Jobs of a queue that are not due yet.")
        paused = _by_queue(
            "jobs_queue_paused", "Jobs of paused tasks that workers have found in a queue."
        )
        oldest = _by_queue(
            "jobs_queue_oldest_seconds",
            "Since the job that has waited longest in a queue was enqueued, or was due.",
        )
        consumers = _by_queue(
            "jobs_queue_consumers", "Consumers of a queue, where RabbitMQ has it."
        )
        dead = _by_queue("jobs_dead_letters", "Dead letters of a queue.")
        for queue in reading.queues:
            for family, value in (
                (length, queue.waiting),
                (scheduled, queue.scheduled),
                (paused, queue.paused),
                (oldest, queue.oldest),
                (consumers, queue.consumers),
                (dead, queue.dead),
            ):
                if value is not None:
                    family.add_metric([queue.name], value)
        yield from (length, scheduled, paused, oldest, consumers, dead)


def _of_tasks(counts: Counts) -> Iterator[Metric]:
    tasks = counts.tasks()
    enqueued = Counter(
        "jobs_enqueued", "Jobs that this process enqueued, by task.", labels=["task"]
    )
    ended = Counter(
        "jobs_ended",
        "Jobs that ended in this process, by task and state.",
        labels=["task", "state"],
    )
    retried = Counter(
        "jobs_retried", "Attempts in this process that are retried, by task.", labels=["task"]
    )
    for task, of in tasks.items():
        enqueued.add_metric([task], of.enqueued)
        retried.add_metric([task], of.retried)
        for state, many in of.ended.items():
            ended.add_metric([task, state], many)
    yield from (enqueued, ended, retried)
    yield _histogram(
        "jobs_wait_seconds",
        "From when a job was due, or was enqueued, to the start of its last attempt.",
        {(task,): of.waited for task, of in tasks.items() if any(of.waited.numbers)},
        "task",
    )
    yield _histogram(
        "jobs_run_seconds",
        "From the start of a job's last attempt to its end.",
        {(task,): of.ran for task, of in tasks.items() if any(of.ran.numbers)},
        "task",
    )


def _by_queue(name: str, text: str) -> Gauge:
    return Gauge(name, text, labels=["queue"])


def _histogram(
    name: str, text: str, histograms: Mapping[tuple[str, ...], Histogram], *labels: str
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in histograms.items():
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.numbers), strict=True))
        family.add_metric(list(values), buckets, histogram.sum)
    return family
