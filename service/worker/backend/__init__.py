"""Celery's result backend: Celery calls it for each state of a job, and to wait for results.

    backend        Backend: stores the record of each state, and never blocks the event loop
    canvas         its base: ends what can never run, after a job that did not end well
    errback_calls  the base of that: calls errbacks as bodies are run
    events         makes the event of a job whose state is stored
    place          finds where in the user's code an error was raised, by its traceback
    waiting        its other base: waits for results, as `AsyncResult.get` does

Celery finds the classes by their dotted paths here, which users may have in their settings. A
record is built and written by worker/results; what follows an end is read from Celery's request by
broker/canvas.py. May import every other room of the worker; none of them imports it. No threads.
"""

from service.worker.backend.backend import Backend, ClusterBackend, SentinelBackend

__all__ = ["Backend", "ClusterBackend", "SentinelBackend"]
