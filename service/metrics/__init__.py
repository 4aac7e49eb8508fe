"""What Prometheus scrapes: `/metrics` for operators, and SERVICE_METRICS_PORT of each process.

    extension    the metrics of an app: hears of its jobs, opens its port, joins Celery's worker
    counts       counts what the jobs of this process did
    children     tells prefork's parent what the jobs of its children did
    queues       reads from Redis what only Redis knows
    queues.lua   the one step that looks at all queues
    exposition   gives all of it to Prometheus; the only module that knows prometheus-client
    port         serves the metrics on a port of their own
    pages        `/metrics`

A feature: nothing but `service.extension` imports it. Where it is off, which is the default, no
receiver is connected and prometheus-client is not imported. The core sends `job_changed` and
`worker_reported`, and counts what seldom happens (`incidents` of service/signals.py).

Threads: any thread may count. Scrapes are answered in threads, so that no event loop waits for
Redis. It may import the rooms of the web and those below; not the worker's, which the web side does
not load.
"""

from quart import Blueprint, Quart

from service.metrics.extension import add_metrics
from service.metrics.pages import metrics
from service.parts import parts_of
from service.web.http.site import site_of


def init_metrics(app: Quart, ours: Blueprint) -> None:
    """Count what the app's jobs do, if its settings ask for that. Raises ConfigurationError."""
    settings = parts_of(app).settings
    if settings.metrics == "off" and not settings.metrics_port:
        return
    add_metrics(app)
    ours.register_blueprint(metrics, url_prefix=site_of(app).root or None)
