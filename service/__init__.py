"""Background jobs for async Python web apps: Quart in front of Celery over Redis.

GLOSSARY.md beside this file defines the words that the code uses. Rooms, from the top down; each
imports only from below, and contracts in pyproject.toml hold it to that:

entry.py    the apps of `service dev` where a folder has none of its own
testing/    runs an app's jobs in the tests of whoever has written them; imported by them alone
cli         the `service` command
app.py      makes an app with jobs and nothing else
extension.py  `Jobs`, which gives an app its jobs, or is mounted by one
dashboard/  what operators see; hears of jobs by the signals alone
metrics/    what Prometheus scrapes; hears of jobs in the same way
health/     whether a process is well, and takes work: probes, heartbeats
web/        HTTP: the tasks, the jobs, and what all answers share
access/     who may do what: callers, and the policy
worker/     runs jobs: pool, event loop, task base, storing of results
tasks/      the user's room: a task is a function in a module here
parts.py    all that an app has, under one key of `app.extensions`
jobs/       declares tasks, builds the Celery app, sends jobs
broker/     the Redis transport that loses nothing: queues, leases, dead letters, checks
dev/        `service dev`: the service and a Valkey in one command
processes/  `service worker`: one worker process per core, kept alive; what systemd hears
logs/       how log records become lines, in text and as JSON
results/    the record of a job; reads it, and follows its changes
redis/      clients, keys, scripts: the only room that knows redis-py
rabbitmq/   publishes and asks by AMQP, on the event loop: the only room that knows py-amqp
settings/   every setting, and how its value is read
signals.py  what jobs and workers do, for those who listen
errors.py   all that a caller can catch
lazy.py     the names of a package, imported when they are first used

The names below are so: pytest imports the root in every run of whoever has installed us, and
`service health` in every probe of a worker. Type checkers read them in __init__.pyi.
"""

from service.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "service.access": [
            "Action",
            "Caller",
            "Subject",
            "allow_by_default",
            "caller_of",
            "signed_link",
        ],
        "service.app": ["create_app"],
        "service.extension": ["Jobs"],
        "service.jobs": ["Job", "JobGroup", "TaskBlueprint", "current_job", "report_progress"],
        "service.parts": ["enqueue", "get_celery"],
    },
)
