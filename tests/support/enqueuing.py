"""Enqueues jobs as a patient user would: until they are accepted."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

from service import create_app, get_celery
from service.errors import BrokerUnavailableError
from service.jobs.arguments import SendOptions, send_options
from service.parts import parts_of
from tests.support.wait import wait_until_async

T = TypeVar("T")

_DEADLINE = 20.0


async def enqueue_in_the_end(task: Any, *args: object, **options: Any) -> Any:
    """Enqueue a job of the app whose context this is, as soon as it is accepted."""

    async def accepted() -> Any:
        try:
            return await task.options(**options).enqueue(*args)
        except BrokerUnavailableError:
            return None

    return await wait_until_async(accepted, description="the job is accepted")


class Enqueuing:
    """For tests that are not async: an app, started on a loop in a thread of its own."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._app = create_app(dict(settings))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="enqueuing")
        self._thread.start()
        self._run(self._app.startup())

    def enqueue(self, task: str, *args: object, **options: Any) -> str:
        """Enqueue a job, as a patient user would: with one id, until it is accepted."""
        options.setdefault("job_id", str(uuid4()))
        return self._run(self._insist(task, args, send_options(**options)))

    def result(self, task: str, *args: object, timeout: float = 20) -> Any:
        """Enqueue a job and wait for its value."""
        return self._run(self._value(task, args, timeout))

    def set_clock(self, ahead: float) -> None:
        """Have Celery's code in this process believe that it is so many seconds later."""
        celery: Any = get_celery(self._app)
        celery.now = lambda: datetime.now(UTC) + timedelta(seconds=ahead)

    def close(self) -> None:
        """Stop the app and its loop."""
        self._run(self._app.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _insist(self, task: str, args: tuple[object, ...], options: SendOptions) -> str:
        deadline = self._loop.time() + _DEADLINE
        while True:
            try:
                async with self._app.app_context():
                    return (await parts_of(self._app).enqueuer.enqueue(task, args, {}, options)).id
            except BrokerUnavailableError:
                if self._loop.time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _value(self, task: str, args: tuple[object, ...], timeout: float) -> Any:
        async with self._app.app_context():
            job = await parts_of(self._app).enqueuer.enqueue(task, args, {})
            return await job.result(timeout=timeout)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)
