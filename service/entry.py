"""The web side and the worker of `service dev`, in a folder that has none of its own.

hypercorn service.entry:web
celery -A service.entry worker
"""

from service.app import create_app
from service.cli.exit import exit_on_error
from service.parts import get_celery

with exit_on_error():
    web = create_app()
    celery = get_celery(web)
