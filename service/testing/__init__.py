"""Runs an app's jobs in the app's own tests.

    runner    JobRunner: runs jobs on the test's own event loop, against a real Valkey
    lifespan  starts an app and a runner, and ends both
    recorder  JobRecorder: no server; jobs that are enqueued are recorded, or run at once
    worker    Celery's consumer and our pool, on a loop that others run
    broker    finds and moves what waits in Redis: jobs by id, and the times at which they are due
    enqueued  what a test sees of a job that was enqueued
    failures  keeps the errors of jobs with their tracebacks
    server    the private Valkey

The pytest plugin, `_service_pytestplugin.py`, stands outside of this package, as pytest imports it
in every run; it imports this one when a test asks for a fixture of it. Nothing of the product
imports this room.
"""

from service.testing.enqueued import EnqueuedJob
from service.testing.lifespan import run_jobs
from service.testing.recorder import JobRecorder, record_jobs
from service.testing.runner import JobRunner

__all__ = ["EnqueuedJob", "JobRecorder", "JobRunner", "record_jobs", "run_jobs"]
