"""The HTTP side."""

from quart import Quart

from service.settings import get_settings
from service.web import errors, gateway, openapi, pages, results, tasks


def init_web(app: Quart) -> None:
    """Give the app its routes and its way of telling errors."""
    app.config["MAX_CONTENT_LENGTH"] = get_settings(app).max_body
    app.register_blueprint(pages.pages)
    app.register_blueprint(results.results)
    app.register_blueprint(tasks.tasks)
    app.register_blueprint(openapi.openapi)
    errors.init_errors(app)
    gateway.init_gateway(app)
