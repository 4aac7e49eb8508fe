from service.access import Action, Caller, Subject, allow_by_default, caller_of, signed_link
from service.app import create_app
from service.extension import Jobs
from service.jobs import Job, JobGroup, TaskBlueprint, current_job, report_progress
from service.parts import enqueue, get_celery

__all__ = [
    "Action",
    "Caller",
    "Job",
    "JobGroup",
    "Jobs",
    "Subject",
    "TaskBlueprint",
    "allow_by_default",
    "caller_of",
    "create_app",
    "current_job",
    "enqueue",
    "get_celery",
    "report_progress",
    "signed_link",
]
