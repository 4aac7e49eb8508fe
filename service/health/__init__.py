"""Says whether a process is well, and whether it takes work: to Kubernetes, systemd and monitors.

    probes     `/healthz` and `/readyz` of the web side
    readiness  asks the broker and Redis, once for all probes of a second
    worker     a worker's heartbeat: the file that `service health` reads, and systemd's watchdog
    port       `/healthz` and `/readyz` of a worker, on SERVICE_HEALTH_PORT

A feature: nothing but `service.extension` imports it, and Celery the worker's step, by its path.
What reads the heartbeat file is service/cli/health.py, as it must not import what this room does.
Healthy means that the event loop turns; an outage of Redis or of the broker makes a process not
ready at most, so that nothing is restarted for it.
"""

from functools import partial

from quart import Blueprint, Quart

from service.health.probes import probes
from service.health.readiness import Readiness, add_readiness
from service.parts import parts_of, runs_jobs
from service.processes.notify import Notifier
from service.web.http.site import site_of


def init_health(app: Quart, ours: Blueprint) -> None:
    """Put the probes into `ours`, unless the site leaves them out, and tell systemd of the web."""
    readiness = add_readiness(app, parts_of(app))
    app.before_serving(partial(_begin_health, app, readiness))
    app.after_serving(readiness.aclose)
    site = site_of(app)
    if site.health is not None:
        ours.register_blueprint(probes, url_prefix=site.health or None)


async def _begin_health(app: Quart, readiness: Readiness) -> None:
    """Say that the app has started, and when it stops; a worker says both by itself."""
    notifier = None if runs_jobs(app) else Notifier.from_environment()
    readiness.begin(notifier)
