"""Reads what only Redis, or RabbitMQ, knows: within a deadline, once for all in a second.

Blocking, and so for threads: a worker's parent process has no event loop.
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from service.parts import Parts
from service.rabbitmq.connection import QueueCounts
from service.redis.clients import broker_url, connect_blocking, is_redis, redis_urls
from service.redis.keys import broker_keys
from service.redis.script import Script
from service.signals import WorkerStatus, seconds_since_epoch

logger: Final = logging.getLogger(__name__)

MAX_QUEUES: Final = 100
_SCRIPT: Final = Script.load("service.metrics", "queues")
_DEADLINE: Final = 0.5  # seconds to connect, and for each answer
_ANSWER: Final = 1.0  # seconds for the event loop's answer
_SHARED: Final = 1.0  # seconds for which scrapes share a reading


@dataclass(frozen=True, slots=True)
class QueueState:
    """How many messages of a queue wait, are not due yet, are paused, or dead; the oldest's age.

    Paused are those of paused tasks.

    The age is in seconds, 0 where nothing waits, and None where what waits does not say its own.
    None is for all that the broker does not tell. RabbitMQ tells how many consumers there are.
    """

    name: str
    waiting: int | None
    scheduled: int | None
    paused: int
    dead: int
    oldest: float | None
    consumers: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What Redis answered; nothing but `is_up` where it did not."""

    is_up: bool = False
    in_flight: int | None = None  # deliveries of all workers
    queues: tuple[QueueState, ...] = ()


class QueueReader:
    """Reads the queues of Celery's settings, and those that workers have reported."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        settings = parts.settings
        self._settings = replace(settings, redis_timeout=min(_DEADLINE, settings.redis_timeout))
        self._has_queues = is_redis(broker_url(settings))
        self._clients: list[Redis] = []  # of the results and of the broker, which may be the same
        self._of_workers: set[str] = set()
        self._lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None  # of the app, where it serves
        self._reading, self._read_at = Reading(is_up=True), float("-inf")

    def read(self) -> Reading:
        """What Redis knows, as of a second ago at most. Waits for Redis for about a second."""
        with self._lock:
            if time.monotonic() - self._read_at >= _SHARED:
                try:
                    self._reading = self._read()
                except (RedisError, OSError) as error:
                    if self._reading.is_up:
                        logger.warning("The metrics are without those that Redis knows: %s", error)
                    self._reading = Reading()
                self._read_at = time.monotonic()
            return self._reading

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client in self._clients:
                client.close()
            self._clients = []

    def _read(self) -> Reading:
        if not self._clients:
            urls = redis_urls(self._settings)
            self._clients = [connect_blocking(self._settings, url) for url in urls]
        results, broker = self._clients[0], self._clients[-1]
        names = self._names()
        keys = broker_keys(self._parts.celery.get().conf)
        looked_at, lists = [], 0  # lists of each queue; another broker's are not in Redis
        for name in names:
            looked_at.append(keys.dead_letters_of(name))
            if self._has_queues:
                lists = len(keys.lists_of(name))
                looked_at += [*keys.lists_of(name), *keys.scheduled_of(name)]
        pauses = (keys.paused_tasks, keys.paused_lists, f"{keys.prefix}{keys.unacked}_paused:")
        call = looked_at, [lists, *pauses]
        pipe: Any = broker.pipeline(transaction=False)
        pipe.hlen(keys.in_flight[0])
        pipe.execute_command(*_SCRIPT.by_sha(*call))
        if results is broker:
            pipe.hgetall(self._parts.keys.workers)
        in_flight, answer, *statuses = pipe.execute(raise_on_error=False)
        if isinstance(answer, NoScriptError):
            answer = _SCRIPT.run_blocking(broker, *call)
        if isinstance(answer, Exception):
            raise answer
        self._learn(statuses[0] if statuses else results.hgetall(self._parts.keys.workers))
        seconds, microseconds, *found = answer
        now = int(seconds) + int(microseconds) / 1e6
        queues = [_state(name, now, *each) for name, each in zip(names, found, strict=True)]
        if not self._has_queues:
            counts = self._counts_of(names)
            queues = [_as_counted(queue, counts.get(queue.name)) for queue in queues]
            return Reading(is_up=True, queues=tuple(queues))
        return Reading(
            is_up=True,
            in_flight=in_flight if isinstance(in_flight, int) else None,
            queues=tuple(queues),
        )

    def _counts_of(self, names: Sequence[str]) -> Mapping[str, QueueCounts]:
        """What a broker that is no Redis tells, by the app's connection to it."""
        if self.loop is None or not self.loop.is_running():
            return {}
        asked = asyncio.run_coroutine_threadsafe(self._ask(names), self.loop)
        try:
            return asked.result(_ANSWER) or {}
        except (TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            return {}

    async def _ask(self, names: Sequence[str]) -> Mapping[str, QueueCounts] | None:
        return await (await self._parts.enqueuer.publisher()).queue_counts(names)

    def _learn(self, statuses: Any) -> None:
        """Take in which queues the workers take from; each reading knows those of the one before.

        A status may be that of another version of the service, or something of another kind.
        """
        for stored in statuses.values() if isinstance(statuses, dict) else ():
            with suppress(msgspec.MsgspecError):
                self._of_workers.update(msgspec.json.decode(stored, type=WorkerStatus).queues)

    def _names(self) -> list[str]:
        """The queues that are read, a bounded number of them: those of the settings first."""
        own = list(self._parts.celery.get().amqp.queues)
        return list(dict.fromkeys((*own, *sorted(self._of_workers))))[:MAX_QUEUES]


def _as_counted(queue: QueueState, counts: QueueCounts | None) -> QueueState:
    """The queue of a broker of which Redis knows the dead letters alone."""
    ready, consumers = counts or (None, None)
    return replace(queue, waiting=ready, scheduled=None, oldest=None, consumers=consumers)


def _state(name: str, now: float, *found: Any) -> QueueState:
    """What the script has found of a queue."""
    waiting, scheduled, paused, dead, oldest, due = found
    since = [seconds_since_epoch(text.decode(errors="replace")) for text in oldest]
    if due:
        since.append(float(due))
    known = [each for each in since if each is not None]
    age = max(0.0, now - min(known)) if known else None
    return QueueState(name, waiting, scheduled, paused, dead, 0.0 if not waiting else age)
