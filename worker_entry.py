"""The worker side: `celery -A worker_entry worker`."""

from service import create_app, get_celery

app = get_celery(create_app())
