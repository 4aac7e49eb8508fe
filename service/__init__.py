"""Background jobs for async Python web apps: Quart in front of Celery over Redis.

GLOSSARY.md beside this file defines the words that the code uses. Rooms, from the top down; each
imports only from below, and contracts in pyproject.toml hold it to that:

cli         the `service` command
app.py      makes the app: a list of its parts
dashboard/  what operators see; hears of jobs by the signals alone
web/        HTTP: the tasks, the jobs, and what all answers share
worker/     runs jobs: pool, event loop, task base, storing of results
tasks/      the user's room: a task is a function in a module here
parts.py    all that an app has, under one key of `app.extensions`
jobs/       declares tasks, builds the Celery app, sends jobs
broker/     the Redis transport that loses nothing: queues, leases, dead letters, checks
dev/        `service dev`: the service and a Valkey in one command
results/    the record of a job; reads it, and follows its changes
redis/      clients, keys, scripts: the only room that knows redis-py
settings.py, signals.py, errors.py
"""

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
