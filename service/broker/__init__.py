"""The Redis transport that loses nothing; Celery finds it by `broker_transport`.

    transport/        Kombu's transport, channel and QoS: takes, delivers, publishes
    leases/           holds deliveries, renews their leases, recovers those of dead workers
    dead_letters/     messages that were given up on: kept, shown, replayed, dropped
    checks/           asks Redis at start whether it will keep what it is given
    scripts.py        the Lua scripts, each one atomic step on deliveries; their files are in lua/
    messages.py       Celery's messages as they lie in Redis
    finding.py        finds one job's message, wherever it lies
    canvas.py         the signatures in a message: the jobs that are to follow, and their errbacks
    delivery.py       a delivery, and the options of its lease
    pauses.py         queues and tasks that an operator has paused
    celery_worker.py  what Celery's worker in this process does with its messages

A message lies in a list, its queue. Taking moves it to the deliveries of a worker, under a tag of
its own with a lease; an ack forgets it; a requeue, or a lease that expires, puts it back; too many
deliveries bury it. A job that is not due yet waits in a sorted set beside its list: lua/take.lua
puts it there and takes it from there, and moves the messages of a paused task to a list beside
their own. May import results, redis, settings and errors. Threads: see
leases/.
"""
