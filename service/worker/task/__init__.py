"""One job, as its task sees it: from the tracer's call to its body, its hooks and its errbacks.

    base           ContextTask: wraps body, hooks and `__call__` of each task class
    request        Celery's Request in the main thread, holding less
    prefork_hooks  has a child run the hooks that prefork's parent calls
    errbacks       runs errbacks as bodies are run
    context        runs a function in an app context: in a bridge, in a thread, or on the loop
    cancellation   refuses a job that was cancelled or has expired
    progress       writes the reports of a body
    phase          how far the tracer is with a job

The tracer calls `before_start`, then the task; whichever comes first asks whether the job is still
wanted. A BodyCall sets `current_job`, pushes the app context and calls the function, and raises
JobCancelledError once the job has an EndReason.
"""
