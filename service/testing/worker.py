"""Runs an app's jobs on an event loop that others run: Celery's consumer, and our pool."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, Final

import kombu
from celery.app.trace import build_tracer
from celery.contrib.testing.app import setup_default_app
from celery.exceptions import TaskRevokedError
from celery.utils.timer2 import Timer
from celery.worker import state
from celery.worker.consumer import Consumer

from service.broker.dead_letters.failure import store_failure
from service.broker.leases.leases import Leases
from service.broker.leases.registry import keys_of, lease_options
from service.jobs.celery.app import QuartCelery
from service.testing.broker import WaitingJobs
from service.worker.loop.process import process_of
from service.worker.pool.pool import AsyncioPool
from service.worker.pool.running_job import CANCEL_TIME, RunningJob

logger: Final = logging.getLogger(__name__)

HOSTNAME: Final = "celery@test"
_AT_ONCE: Final = 200  # messages in one take; more jobs at once than any test has


class _Pool(AsyncioPool):
    """Says when a job has ended; ends jobs without blocking the loop, which is the test's."""

    is_watched = False  # a test may stand still in a debugger
    on_end: Callable[[], object]

    @property
    def running(self) -> list[RunningJob]:
        """The jobs that have begun and not ended."""
        return list(self._running.values())

    @property
    def is_busy(self) -> bool:
        """Whether it has jobs."""
        return bool(self._running or self._waiting)

    def free_slot(self, job: RunningJob) -> None:
        """Take back the job's slot."""
        super().free_slot(job)
        self.on_end()

    async def end(self) -> None:
        """Cancel what runs, and wait for it, though not for ever."""
        self._closed = True
        self._waiting.clear()
        for job in self.running:
            job.give_back()
        tasks = [job.task for job in self.running if job.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_TIME)
        for job in self.running:
            logger.error("%r goes on after the test: nothing can end it", job)
        self._watchdog.stop()
        self.main_thread.close()


class _Strategies(dict[str, Any]):
    """How a job of each task begins. Made when the first one comes: a test has few of the tasks."""

    consumer: Any

    def __missing__(self, name: str) -> Any:
        celery = self.consumer.app
        task = celery.tasks[name]  # raises KeyError, as Celery expects it for an unknown task
        task.__trace__ = build_tracer(name, task, celery.loader, HOSTNAME, app=celery)
        strategy = self[name] = task.start_strategy(celery, self.consumer)
        return strategy


class BareConsumer(Consumer):
    """Celery's consumer without the steps that make it a worker's, as none of them is started."""

    Strategies = _Strategies
    event_dispatcher = None  # the only thing of theirs that a job needs

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]  # Any
        """Without steps."""

        default_steps: ClassVar[list[object]] = []


class InProcessWorker:
    """A worker without a process of its own. It takes messages only when it is told to.

    Its leases are not renewed: nobody else takes jobs, and a test may stand still in a debugger.
    `changed` is set whenever a job has ended.
    """

    def __init__(self, celery: QuartCelery, on_message: Callable[[Any], object]) -> None:
        """Make the running loop that of the app's jobs; before the app starts."""
        self.changed = asyncio.Event()
        self._celery: Any = celery
        self._on_message = on_message
        self._cleanup = ExitStack()
        self._cleanup.enter_context(setup_default_app(celery))
        celery.set_default()
        celery.set_current()
        celery.finalize(auto=True)  # else the app's start would do it, in a thread
        self._loop = process_of(celery.quart_app).use_running_loop()
        celery.process_loop = self._loop

    def start(self) -> None:
        """Connect to the broker, and be ready for messages."""
        celery = self._celery
        self._pool: Any = _Pool(_AT_ONCE, app=celery)
        self._pool.on_end = self.changed.set
        self._pool.find_loop()
        self._cleanup.callback(self._connect().release)
        consumer: Any = BareConsumer(
            self._begin,
            hostname=HOSTNAME,
            pool=self._pool,
            app=celery,
            timer=Timer(),
            controller=SimpleNamespace(
                state=state, app=celery, hostname=HOSTNAME, use_eventloop=False
            ),
            disable_rate_limits=True,  # a test is not to wait for them
        )
        consumer.strategies.consumer = consumer
        handle = consumer.create_task_handler()

        def on_message(message: Any) -> None:
            self._on_message(message)
            handle(message)

        self._consumers = kombu.Consumer(
            self._channel,
            queues=[],
            on_message=on_message,
            accept=celery.conf.accept_content,
            auto_declare=False,  # a queue that has messages is there
        )

    def _connect(self) -> Any:
        connection = self._celery.connection_for_read()
        channel = self._channel = connection.default_channel
        keys, fail = keys_of(channel), partial(store_failure, self._celery)
        self._leases = Leases(channel.client, keys, lease_options(channel), fail=fail)
        channel.qos.leases = self._leases
        self._leases.holders.add(channel.qos)
        self.waiting = WaitingJobs(channel.client, keys)
        return connection

    @property
    def is_busy(self) -> bool:
        """Whether jobs run."""
        return bool(self._pool.is_busy)

    @property
    def is_awaited(self) -> bool:
        """Whether code in a thread waits for a job in Celery's own way."""
        return any(self._celery.backend._pending_results)  # noqa: SLF001  where Celery keeps them

    @property
    def running(self) -> list[RunningJob]:
        """The jobs that run."""
        found: list[RunningJob] = self._pool.running
        return found

    def take(self, limit: int = _AT_ONCE) -> int:
        """Begin what is due and not paused, of all queues, `limit` jobs at most; how many."""
        if limit < 1 or not (queues := self.waiting.queues()):
            return 0
        # One look passes no more than a hundred jobs that are not due yet, or of a paused task.
        taken, before = self._take(queues, limit), math.inf
        while not taken and 0 < (due := self.waiting.count_due()) < before:
            taken, before = self._take(queues, limit), due
        return taken

    def take_job(self, job_id: str) -> bool:
        """Begin this one job, whenever it is due; whether it waited."""
        queue = self.waiting.bring_forward(job_id)
        return queue is not None and bool(self._take([queue], 1))

    def tell_broker(self) -> None:
        """Tell Redis how deliveries have ended."""
        dispositions = self._leases.dispositions
        if self._leases.in_flight.dispositions():
            dispositions.send_acks(float("inf"))
            dispositions.move()
            dispositions.bury()

    async def stop(self) -> None:
        """End the jobs that still run."""
        await self._pool.end()
        self.tell_broker()

    async def close(self) -> None:
        """Give the loop back. After the app has stopped."""
        await self._loop.leave()
        self._celery.process_loop = None
        self._cleanup.close()

    def _take(self, queues: list[str], limit: int) -> int:
        known = self._consumers.queues
        if new := [queue for queue in queues if not self._consumers.consuming_from(queue)]:
            for queue in new:
                if queue not in known:
                    self._consumers.add_queue(self._celery.amqp.queues[queue])
            self._consumers.consume()
        taken: int = self._channel.deliver_now(queues, limit)
        return taken

    def _begin(self, request: Any) -> None:
        with suppress(TaskRevokedError):  # it is acknowledged then
            request.execute_using_pool(self._pool)
