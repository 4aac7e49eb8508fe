"""The HTTP side."""

from quart import Quart

from service.web import errors, gateway, pages, results


def init_web(app: Quart) -> None:
    """Give the app its routes and its way of telling errors."""
    app.register_blueprint(pages.pages)
    app.register_blueprint(results.results)
    errors.init_errors(app)
    gateway.init_gateway(app)
