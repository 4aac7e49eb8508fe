"""The HTTP side: starts jobs, shows and streams them, and says what went wrong.

asgi/      before the app: proxies, refusals, the server's stop
http/      what every route shares
limits/    what one caller may have
jobs/      jobs that exist
tasks/     jobs to be started
templates/ static/css/ static/js/  the pages; base.css and then what a page needs besides

`init_web` makes one blueprint, with one inside for each section of the app's Site. A request
passes the middleware (ASGI), the checks of `limits` and `security`, and its route. A route raises
the errors of `service.errors`, which `problems` answers, and names a view, a msgspec struct, for
the JSON that it answers: schema and documentation come from that too. Pages are made by `render` of
http/site.py, in a Jinja environment of their own.

`tasks` may import `jobs`, both `limits`, these `http`, and all may import `asgi`. The room imports
parts, jobs and results; of the broker and the dashboard nothing. All of it runs on the event loop.
"""

from quart import Blueprint, Quart

from service.parts import parts_of
from service.web.asgi.middleware import init_middleware
from service.web.http.openapi import openapi
from service.web.http.problems import init_problems
from service.web.http.rules import SiteBlueprint
from service.web.http.security import init_security
from service.web.http.site import NAME, Site, add_site
from service.web.jobs.job_cards import job_cards
from service.web.jobs.results import results
from service.web.limits.checks import init_limits
from service.web.tasks.docs import docs
from service.web.tasks.pages import pages
from service.web.tasks.tasks import tasks


def init_web(app: Quart, site: Site, *, whole_app: bool) -> Blueprint:
    """Give the app a site, whose blueprint, still to be registered, this returns.

    With `whole_app` its errors, headers and refusals are those of all the app; else nothing of it
    reaches beyond its own blueprint.
    """
    add_site(app, site)
    ours = SiteBlueprint(
        NAME, __name__, static_folder="static", static_url_path=f"{site.root}/static"
    )
    for blueprint, prefix in (
        (pages, site.front_page),
        (results, site.results),
        (tasks, site.api),
        (openapi, site.docs),
        (docs, site.docs),
        (job_cards, site.pages),
    ):
        if prefix is not None:
            ours.register_blueprint(blueprint, url_prefix=prefix or None)
    if whole_app:
        app.url_map.merge_slashes = False  # its redirects lead to whatever Host was given
        app.config["MAX_CONTENT_LENGTH"] = parts_of(app).settings.max_body
    init_limits(app, app if whole_app else ours)
    init_security(app if whole_app else ours, own_host=whole_app and site.mount is None)
    init_problems(app if whole_app else ours)
    init_middleware(app, NAME, whole_app=whole_app, for_any_host=site.for_any_host)
    return ours
