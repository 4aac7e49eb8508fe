"""The worker side: `celery -A worker_entry worker`."""

from service import create_app, get_celery
from service.cli.exit import exit_on_error

with exit_on_error():
    app = get_celery(create_app())
