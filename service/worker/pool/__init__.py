"""AsyncioPool: Celery's worker hands it jobs, and it runs them on the event loop.

    default_pool  chooses the pool and its size, where the command line does not
    pool          AsyncioPool: slots, start and stop
    stacks/       tells an operator where a running job is
    drain         ends the jobs when the worker stops
    watchdog      finds the job that blocks the loop
    running_job   one job: its limits, and the report of its end
    tracer_call   what Celery asks the pool for: a call of its tracer
    main_thread   makes calls in the worker's main thread

`on_apply` queues a TracerCall; when a slot is free, a RunningJob runs it in a bridge on the loop.
Its end goes through MainThread to Celery's Request, which acknowledges. Celery calls the pool in
the main thread; jobs and their timers run on the loop; the watchdog has a thread of its own.
"""

from service.worker.pool.pool import AsyncioPool

__all__ = ["AsyncioPool"]
