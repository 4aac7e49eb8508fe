"""The service with nothing noted for the dashboard, to compare with.

A benchmark's own: it puts nothing in the place of what notes, which no test does.
"""

from typing import Any

import service.jobs.celery_app
import service.jobs.enqueuer
import service.worker.backend
from service import create_app, get_celery


def nothing(*_: Any) -> None:
    """Note nothing."""


for module, name in (
    (service.worker.backend, "note_state"),
    (service.jobs.enqueuer, "note_queued"),
):
    setattr(module, name, nothing)

app = get_celery(create_app())
app.steps["worker"] = {step for step in app.steps["worker"] if "reporter" not in str(step)}
