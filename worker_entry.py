"""The worker side: `celery -A worker_entry worker`."""

from service import create_app, get_celery
from service.cli.exit import told_without_traceback

with told_without_traceback():
    app = get_celery(create_app())
