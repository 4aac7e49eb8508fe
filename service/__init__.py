"""Background jobs for async Python web apps: Quart in front of Celery over Redis."""

from service.jobs.blueprint import TaskBlueprint
from service.jobs.celery.app import get_celery
from service.jobs.current import current_job, report_progress
from service.jobs.job import Job, JobGroup
from service.jobs.sending.enqueuer import enqueue

# isort: split
from service.app import create_app  # last: its routes import tasks, and those the names above

__all__ = [
    "Job",
    "JobGroup",
    "TaskBlueprint",
    "create_app",
    "current_job",
    "enqueue",
    "get_celery",
    "report_progress",
]
