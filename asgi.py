"""The web side: `hypercorn asgi:app`."""

from service import create_app, get_celery
from service.cli.exit import told_without_traceback

with told_without_traceback():
    app = create_app()
    get_celery(app)  # else what it refuses would come up once the server has started
