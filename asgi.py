"""The web side: `hypercorn asgi:app`."""

from service import create_app, get_celery
from service.cli.exit import exit_on_error
from service.cli.main import service

with exit_on_error():
    app = create_app()
    app.cli.add_command(service)  # `quart --app asgi service dead-letters list`
    get_celery(app)  # else what it refuses would come up once the server has started
