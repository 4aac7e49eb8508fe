"""The HTTP side: starts jobs, shows and streams them, and says what went wrong.

    http/   what every route shares: kinds of answers, problems, security, middleware, OpenAPI
    jobs/   jobs that exist: one job's result, its events, the cards of a page
    tasks/  jobs to be started: the task API, and the front page with a form for each task
    templates/, static/css/, static/js/  the pages

A request passes the middleware (ASGI), the checks of `security`, and its route, which raises the
errors of `service.errors`; `problems` answers those. A route marks itself as `documented`, and
names the view (a msgspec struct) of each answer; the OpenAPI document comes from both. A job that
is followed is read by a Follower of `service.results`: by the long poll in `jobs/results.py`, the
event stream in `jobs/events.py` and the page in `jobs/job_cards.py`.

May import: parts, jobs, results, settings, errors. Of the broker and the dashboard: nothing.
`tasks` may import `jobs`, both may import `http`. Everything runs on the event loop.
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
