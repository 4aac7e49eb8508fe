from service.testing.enqueued import EnqueuedJob
from service.testing.lifespan import run_jobs
from service.testing.recorder import JobRecorder, record_jobs
from service.testing.runner import JobRunner

__all__ = ["EnqueuedJob", "JobRecorder", "JobRunner", "record_jobs", "run_jobs"]
