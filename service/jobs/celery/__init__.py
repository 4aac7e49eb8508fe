"""Builds the one Celery app of each Quart app.

builder.py      builds it, and gives it its tasks
existing.py     makes a Celery app of the user's that of a Quart app
app.py          the Celery app: our task base for every task, a QUEUED record for whatever is sent
current.py      has shared tasks go to the Celery app of the current Quart app
connections.py  how it speaks to its broker
patience.py     has what goes on from a job outlive an outage
quorum.py       queues on RabbitMQ, and what is declared with them
sure_routing.py has what Celery's own code publishes reach a queue, also a deleted one
republishing.py publishes a dead letter to RabbitMQ once more
settings.py     translates the service's settings into Celery's, and refuses those that cannot work
moments.py      says by which clock an ETA, an expiry and a countdown go
capture.py      records what Celery would publish, instead of publishing it

The app is built at its first use, as a process that only serves pages does not need it. Celery
finds our task base, pool, backend and transport by the dotted paths in app.py and settings.py.
Any thread may use the app; inside `async def` tasks, calls that block are made in a thread.
This room imports blueprint.py of the room around it, results, redis, signals and errors.
"""
