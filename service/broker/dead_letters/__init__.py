"""Messages that were given up on, kept in a list for each queue until a person looks at them.

    model.py    a dead letter as it lies in Redis, and the queues to look in
    store.py    DeadLetters: pages, finds, replays and drops them (asyncio only)
    failure.py  stores FAILURE for the job of a message that is buried

Burying: leases/recovery.py decides that a message was delivered too often; failure.py writes the
job's FAILURE by Celery's own result backend; then lua/bury.lua moves the message. Replaying and
dropping: the dashboard and `service dead-letters` call DeadLetters.

May import of the broker messages.py and scripts.py, and the rooms results and redis. No threads of
its own: `store_failure` runs in the leases' burying thread.
"""
