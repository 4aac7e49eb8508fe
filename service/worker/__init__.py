"""Runs jobs: Celery's own worker with our Task base, pool and result backend.

    backend/      Celery calls it for each state (STARTED, RETRY, SUCCESS …): it stores the record
    reporter      says every second how the worker is
    gossip        leaves Celery's gossip out, unless a setting asks for it
    log_records   puts a job's ids into its log records, and figures into the line of its end
    job_log/      keeps what jobs log and print, for operators
    log_pipe      lets the worker outlive the reader of its output
    task/         one job: from the tracer's call to its body and hooks
    pool/         many jobs: AsyncioPool, which runs Celery's tracers on the event loop
    rabbitmq/     what is different where the broker is RabbitMQ
    loop/         one process: its event loop, and the bridge that synchronous code waits in
    results/      builds, writes and reads records
    celery_types  the parts of Celery's tasks and requests that we use

Celery's worker reads a message into a Request and hands it to the pool. The pool runs Celery's
tracer in a bridge; the tracer calls the ContextTask, which refuses a job that is not to run, else
runs the body in an app context. The backend stores the outcome; then the main thread acknowledges.
It uses jobs, broker and the rooms below these. No other room imports it: Celery loads it by the
dotted paths that jobs/celery gives it.

Threads of a worker with the asyncio pool; with prefork each child has those marked *:

    main               takes messages, hands out jobs, acknowledges them at their ends
    event-loop *       tracers, coroutine bodies and records
    sync-body-N        bodies that are not coroutines, up to SERVICE_SYNC_THREADS (32)
    blocking-call-N *  Celery's blocking calls for code on the loop, up to 16
    to-thread-N *      calls of asyncio.to_thread, up to 32
    stop-limit         hears the signals to stop; ends a process that takes too long to stop
    log-pipe *         sees the reader of the output end, where that is a pipe
    loop-watchdog      names the job that blocks the loop
    job-log *          writes what jobs have logged, once one has
    health             service/health: its heartbeat, where that is asked for
    reporter           the worker's status, every second
    stack-questions    in each child of prefork: hears where its job is asked for
    metrics-port, metrics-children   with metrics: their port, and what prefork's children tell
    dead-letters       buries what RabbitMQ has dead-lettered
    kept-jobs          tells Redis which jobs go on without their messages, while there are any
    leases, recovery, burying   the broker's; recorder: the dashboard's
"""
