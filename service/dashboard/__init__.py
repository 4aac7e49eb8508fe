"""What operators see: workers, queues, rates, recent jobs and dead letters.

    events/     records job events, reads them back, and makes figures of them
    extension   all that the dashboard of an app has, in one object
    bulk        what is done to many jobs at once
    pages/      the blueprints under the dashboard's prefix
    templates/, static/   their HTML and JavaScript

A feature: nothing but `service.extension` imports it. The core sends the signals `job_changed` and
`worker_reported` (service/signals.py); `init_dashboard` connects the recorder to them. Where a web
process is asked for a page, the reader reads what all processes have reported to Redis, and the
pages are rendered once for all who look at them.

It may import the rooms of the web and of jobs, results and Redis; of the broker only dead letters,
pauses, and what finds one job's message.
"""

from pathlib import Path

from quart import Blueprint, Quart

from service.dashboard.extension import add_dashboard
from service.dashboard.pages import audit, dead_letters, many, queues, sign_in, tasks, views
from service.dashboard.pages.job import actions, logs, stack
from service.dashboard.pages.job.details import find_details
from service.parts import parts_of
from service.web.http.files import FileBlueprint
from service.web.http.site import site_of


def init_dashboard(app: Quart, ours: Blueprint) -> None:
    """Put the pages of its operators into `ours`, unless the app's site leaves them out."""
    site = site_of(app)
    if site.dashboard is None:
        return
    recorder = add_dashboard(app).recorder
    signals = parts_of(app).signals
    signals.job_changed.connect(recorder.record)
    signals.worker_reported.connect(recorder.record_worker)
    app.after_serving(recorder.aclose)
    site.template_folders.append(Path(__file__).parent / "templates")
    site.job_details.append(find_details)
    files = FileBlueprint("dashboard_files", __name__, static_folder="static", static_url_path="")
    for blueprint, prefix in (
        (sign_in.admin, site.dashboard),
        (views.dashboard, site.dashboard),
        (many.many, f"{site.dashboard}/many"),
        (queues.queues, f"{site.dashboard}/queues"),
        (tasks.task, f"{site.dashboard}/tasks"),
        (dead_letters.dead_letters, f"{site.dashboard}/dead-letters"),
        (actions.job_actions, f"{site.dashboard}/jobs"),
        (logs.job_logs, f"{site.dashboard}/jobs"),
        (stack.job_stack, f"{site.dashboard}/jobs"),
        (audit.audit_trail, f"{site.dashboard}/audit"),
        (files, f"{site.root}/static/dashboard"),
    ):
        ours.register_blueprint(blueprint, url_prefix=prefix or None)
