"""Runs an app's jobs in the app's own tests.

    runner    JobRunner: runs jobs on the test's own event loop, against a real Valkey
    lifespan  starts an app and a runner, and ends both
    recorder  JobRecorder: no server; jobs that are enqueued are recorded, or run at once
    worker    Celery's consumer and our pool, on a loop that others run
    broker    finds and moves what waits in Redis: jobs by id, and the times at which they are due
    enqueued  what a test sees of a job that was enqueued
    failures  keeps the errors of jobs with their tracebacks
    server    the private Valkey
    plugin    the pytest plugin: the fixtures `jobs` and `recorded_jobs`

Pytest imports the plugin in every run, and so this file, whose names are therefore imported when
they are first used. Nothing of the product imports this room.
"""

from service.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "service.testing.enqueued": ["EnqueuedJob"],
        "service.testing.lifespan": ["run_jobs"],
        "service.testing.recorder": ["JobRecorder", "record_jobs"],
        "service.testing.runner": ["JobRunner"],
    },
)
