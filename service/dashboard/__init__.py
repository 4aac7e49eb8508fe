"""What operators see."""

from quart import Quart

from service.dashboard.events.recorder import init_recorder
from service.dashboard.pages import dead_letters, sign_in, views


def init_dashboard(app: Quart) -> None:
    """Give the app the pages of its operators."""
    init_recorder(app)
    app.register_blueprint(sign_in.admin)
    app.register_blueprint(views.dashboard)
    app.register_blueprint(dead_letters.dead_letters)
    views.init_dashboard(app)
