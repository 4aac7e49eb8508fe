"""Background jobs for async Python web apps: Quart in front of Celery over Redis."""

from service.app import create_app
from service.jobs import Job, JobGroup, TaskBlueprint, current_job, report_progress
from service.parts import enqueue, get_celery

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
