"""What operators see: workers, queues, rates, recent jobs and dead letters.

    events/     records job events, reads them back, and makes figures of them
    extension   all that the dashboard of an app has, in one object
    pages/      the blueprints under /dashboard
    templates/, static/   their HTML and JavaScript

A feature: nothing but `service.app` imports it. The core sends the signals `job_changed` and
`worker_reported` (service/signals.py); `init_dashboard` connects the recorder to them. Where a web
process is asked for a page, the reader reads what all processes have reported to Redis, and the
pages are rendered once for all who look at them.

It may import the rooms of the web and of jobs, results and Redis; of the broker only dead letters.
"""

from quart import Quart

from service.dashboard.extension import add_dashboard
from service.dashboard.pages import dead_letters, sign_in, views
from service.parts import parts_of


def init_dashboard(app: Quart) -> None:
    """Give the app the pages of its operators."""
    recorder = add_dashboard(app).recorder
    signals = parts_of(app).signals
    signals.job_changed.connect(recorder.record)
    signals.worker_reported.connect(recorder.record_worker)
    app.after_serving(recorder.close)
    for blueprint in (sign_in.admin, views.dashboard, dead_letters.dead_letters):
        app.register_blueprint(blueprint)
