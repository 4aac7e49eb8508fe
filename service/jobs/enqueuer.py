"""The only code that publishes from async code."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from quart import Quart, current_app
from redis.asyncio import Redis

from service.jobs.blueprint import JOBS
from service.jobs.celery_app import get_celery
from service.jobs.envelope import seal
from service.jobs.job import Job
from service.monitor.note import note_queued
from service.monitor.recorder import get_recorder
from service.results.connection import bounded
from service.results.store import ResultStore, get_results
from service.results.watcher import get_watcher
from service.settings import get_settings

_SCRIPT: Final = (files("service.jobs") / "enqueue.lua").read_text()


class Enqueuer:
    """Hands jobs to the broker on the event loop, each in one bounded step."""

    def __init__(self, app: Quart, client: Redis, results: ResultStore, *, timeout: float) -> None:
        self._app = app
        self._results = results
        self._timeout = timeout
        self._script = client.register_script(_SCRIPT)

    def celery_task(self, name: str) -> Any:
        """The app's own Celery task object of this name."""
        return get_celery(self._app).tasks[name]

    async def enqueue(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Job[Any]:
        """Hand a call of the task to the broker.

        When this returns, the job is stored and its id is known. Raises BrokerUnavailableError,
        and TypeError where the arguments do not fit the task.
        """
        celery = get_celery(self._app)
        envelope = seal(celery, celery.tasks[name], args, kwargs)
        async with bounded(self._timeout, maybe_accepted=True):
            await self._script(
                keys=[self._results.key(envelope.job_id), envelope.queue],
                args=[
                    envelope.record,
                    get_settings(self._app).result_expires,
                    envelope.message,
                ],
            )
        note_queued(get_recorder(self._app), envelope.job_id, name)
        return Job(envelope.job_id, name, get_watcher(self._app))


def init_jobs(app: Quart, client: Redis) -> None:
    """Make the app able to enqueue."""
    app.extensions[JOBS] = Enqueuer(
        app, client, get_results(app), timeout=get_settings(app).redis_timeout
    )


def get_enqueuer() -> Enqueuer:
    """The current app's enqueuer."""
    enqueuer: Enqueuer = current_app.extensions[JOBS]
    return enqueuer
