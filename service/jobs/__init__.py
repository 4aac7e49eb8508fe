"""Declares tasks, and enqueues calls of them.

blueprint.py  `@blueprint.task` records a function as a task; refuses options that Celery lacks
finding.py    finds the tasks of an app
handle.py     a declared task: call it as the function, or enqueue it
arguments/    what a task takes and returns: checks calls; the options of one `enqueue`
codecs/       makes JSON of values by their annotation, and values of that JSON again
schema.py     makes JSON Schemas of a task's arguments and result
job.py        accepted jobs, as their caller sees them, and the job that the caller is in
celery/       the app's own Celery app
sending/      the only code that publishes

A task module makes a blueprint; a registry has those of an app, which its Celery app is built from.
`await handle.enqueue(…)` checks the arguments, and asks the app's Enqueuer (sending/) to send.
This room imports results, redis, signals and errors; it names the rooms of workers and of the
transport by dotted path. Code in this package imports tasks' tools from here, users from `service`.
"""

from service.jobs.blueprint import TaskBlueprint
from service.jobs.job import Job, JobGroup, current_job, report_progress

__all__ = ["Job", "JobGroup", "TaskBlueprint", "current_job", "report_progress"]
