"""Declaring tasks, and enqueueing calls of them.

What a module with tasks imports is here; code outside of the package finds the same in `service`.
"""

from service.jobs.blueprint import TaskBlueprint
from service.jobs.current import current_job, report_progress
from service.jobs.job import Job, JobGroup

__all__ = ["Job", "JobGroup", "TaskBlueprint", "current_job", "report_progress"]
