"""The event loop of a process that runs jobs, and how Celery's synchronous code waits on it.

    lifespan        runs the app's start-up and shutdown, as a step of Celery's worker
    stop_limit      ends a worker that was told to stop and takes too long
    process         the WorkerProcess: the loop, the writer and reader of records
    process_loop    the loop, in a thread of its own or as a test has it, and the threads beside it
    child_tasks     lends bridges to the asyncio tasks that a job starts
    daemon_threads  the threads for blocking code beside the loop
    bridge          runs synchronous code in a greenlet, where it can await; why a job is to end
    forks           ends a process that a body has forked where that body ends
    thread_step     a step of Celery's worker that runs a thread from its start to its end
    celery_stacks   has `current_task` and `request` follow a job into its tasks and threads

`process_of(app).loop` is made at the first use after a fork. A tracer runs in a Bridge: `await_`
hands an awaitable up to the loop, which switches back with the value. Celery's blocking calls are
made in a thread (OffLoop), and the bridge waits for that thread in the same way; for results it
waits on the loop itself (backend/waiting.py).
"""
