"""One job, as its task sees it: from the tracer's call to its body, its hooks and its errbacks.

    base           ContextTask: wraps body, hooks and `__call__`
    typed          makes values of a message's JSON, and JSON of what a body returns
    wanted         refuses a job that was cancelled, has expired, or has ended before
    request        Celery's Request in the main thread, holding less
    errbacks       runs errbacks as bodies are run, and in a child what prefork's parent calls
    in_child       has a child do what prefork's parent is to see done
    context        runs a function in an app context (in a bridge, in a thread, or on the loop)
                   and writes its progress

The tracer calls `before_start`, then the task; whichever comes first asks whether the job is still
wanted. A BodyCall sets `current_job`, pushes the app context and calls the function, and raises
JobCancelledError once the job has an EndReason.
"""
