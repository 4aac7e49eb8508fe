"""The HTTP side."""

from quart import Quart

from service.parts import parts_of
from service.web.http import filters, middleware, openapi, problems, security
from service.web.jobs import api as jobs_api
from service.web.jobs import cards
from service.web.tasks import api as tasks_api
from service.web.tasks import front_page


def init_web(app: Quart) -> None:
    """Give the app its routes and its way of telling errors."""
    app.config["MAX_CONTENT_LENGTH"] = parts_of(app).settings.max_body
    app.register_blueprint(front_page.pages)
    app.register_blueprint(jobs_api.results)
    app.register_blueprint(tasks_api.tasks)
    app.register_blueprint(openapi.openapi)
    app.register_blueprint(cards.cards)
    security.init_security(app)
    problems.init_errors(app)
    filters.init_wording(app)
    middleware.init_gateway(app)
