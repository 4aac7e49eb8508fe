"""The HTTP side."""

from quart import Quart

from service.settings import get_settings
from service.web import (
    admin,
    cards,
    dashboard,
    dead_letters,
    errors,
    gateway,
    openapi,
    pages,
    results,
    security,
    tasks,
    wording,
)


def init_web(app: Quart) -> None:
    """Give the app its routes and its way of telling errors."""
    app.config["MAX_CONTENT_LENGTH"] = get_settings(app).max_body
    app.register_blueprint(pages.pages)
    app.register_blueprint(results.results)
    app.register_blueprint(tasks.tasks)
    app.register_blueprint(openapi.openapi)
    app.register_blueprint(cards.cards)
    app.register_blueprint(admin.admin)
    app.register_blueprint(dashboard.dashboard)
    app.register_blueprint(dead_letters.dead_letters)
    dashboard.init_dashboard(app)
    security.init_security(app)
    errors.init_errors(app)
    wording.init_wording(app)
    gateway.init_gateway(app)
