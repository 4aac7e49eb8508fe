"""The HTTP side: starts jobs, shows and streams them, and says what went wrong.

http/      what every route shares
jobs/      jobs that exist
tasks/     jobs to be started
templates/ static/css/ static/js/  the pages; base.css and then what a page needs besides

A request passes the middleware (ASGI), the checks of `security`, and its route. A route raises the
errors of `service.errors`, which `problems` answers, and names a view, a msgspec struct, for the
JSON that it answers: schema and documentation come from that too.

`tasks` may import `jobs`, and both may import `http`. The room imports parts, jobs and results; of
the broker and the dashboard nothing. All of it runs on the event loop.
"""

from quart import Quart

from service.parts import parts_of
from service.web.http.filters import init_filters
from service.web.http.middleware import init_middleware
from service.web.http.openapi import openapi
from service.web.http.problems import init_problems
from service.web.http.security import init_security
from service.web.jobs.job_cards import job_cards
from service.web.jobs.results import results
from service.web.tasks.pages import pages
from service.web.tasks.tasks import tasks


def init_web(app: Quart) -> None:
    """Give the app its routes, and its answers to errors."""
    app.config["MAX_CONTENT_LENGTH"] = parts_of(app).settings.max_body
    for blueprint in (pages, results, tasks, openapi, job_cards):
        app.register_blueprint(blueprint)
    init_security(app)
    init_problems(app)
    init_filters(app)
    init_middleware(app)
