"""Reads from the broker what waits in each queue and what is paused; knows how fast queues fill."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from service.broker.pauses import read_paused_lists, read_pauses
from service.dashboard.events.snapshot import PausedTask, Queue
from service.parts import Parts
from service.redis.keys import broker_keys
from service.redis.script import Script
from service.signals import WorkerStatus, seconds_since_epoch

SPAN: Final = 60.0  # seconds
_OLDEST: Final = Script.load("service.dashboard.events", "oldest")


class Flow:
    """What waited in each queue at the readings of the last minute."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def rate_in(self, queue: str, now: float, waiting: int, rate_out: float) -> float:
        """Jobs that came in a second: those that went, and those that wait in addition."""
        seen = self._seen.setdefault(queue, deque())
        while seen and seen[0][0] < now - SPAN:
            seen.popleft()
        seen.append((now, waiting))
        at, before = seen[0]
        more = (waiting - before) / (now - at) if now > at else 0.0
        return max(0.0, rate_out + more)


@dataclass(frozen=True, slots=True)
class QueueReading:
    """The queues, the paused tasks by name, and how many deliveries there are in all."""

    queues: tuple[Queue, ...] = ()
    paused_tasks: dict[str, PausedTask] = field(default_factory=dict)
    deliveries: int = 0


class Queues:
    """Reads queues by name, and knows how full they were before."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._flow = Flow()

    async def read(
        self,
        names: Sequence[str],
        workers: Sequence[WorkerStatus],
        rates_out: Mapping[str, float],
        now: float,
    ) -> QueueReading:
        """The queues as they are now; `workers` are alive. Raises RedisError."""
        keys = broker_keys(self._parts.celery.get().conf)
        counts = await (await self._parts.enqueuer.publisher()).queue_counts(names)
        # Where another broker counts, Redis has the dead letters alone.
        is_redis = counts is None
        lists_of = {name: keys.lists_of(name) if is_redis else () for name in names}
        scheduled_of = {name: keys.scheduled_of(name) if is_redis else () for name in names}
        pipe = self._parts.broker_redis.pipeline(transaction=False)
        pipe.hlen(keys.in_flight[0])
        for key in (keys.paused_queues, keys.paused_tasks, keys.paused_lists):
            pipe.hgetall(key)
        for name in names:
            for key in (keys.dead_letters_of(name), *lists_of[name]):
                pipe.llen(key)
            for key in scheduled_of[name]:
                pipe.zcard(key)
        deliveries, queue_pauses, task_pauses, lists, *lengths = await pipe.execute()
        pauses, left = read_pauses(queue_pauses), iter(lengths)
        paused_tasks = read_pauses(task_pauses)
        beside = [*read_paused_lists(keys, lists)]
        lengths_beside = await self._lengths([each.key for each in beside])
        paused_jobs: Counter[str] = Counter()
        queues: list[Queue] = []
        for name in names:
            dead, own = next(left), lists_of[name]
            ready, later = sum(islice(left, len(own))), sum(islice(left, len(scheduled_of[name])))
            paused, waits_in = 0, [*own]
            for each, length in zip(beside, lengths_beside, strict=True):
                if each.beside not in own:
                    continue
                if each.task in paused_tasks:
                    paused += length
                    paused_jobs[each.task] += length
                else:  # it was resumed, and nobody has taken all of it since
                    ready += length
                    waits_in.append(each.key)
            waiting: int | None
            scheduled: int | None
            gone = rates_out.get(name, 0.0)
            if counts is None:
                waiting, scheduled = ready, later
            else:
                waiting, scheduled = counts[name].ready if name in counts else None, None
            rate_in = self._flow.rate_in
            queues.append(
                Queue(
                    name=name,
                    dead=dead,
                    waiting=waiting,
                    paused=paused,
                    scheduled=scheduled,
                    deliveries=sum(status.deliveries.get(name, 0) for status in workers),
                    workers=sum(name in status.queues for status in workers),
                    pause=pauses.get(name),
                    oldest=await self._oldest(waits_in, now) if waiting and is_redis else None,
                    rate_in=None if waiting is None else rate_in(name, now, waiting + paused, gone),
                    rate_out=gone,
                )
            )
        tasks = {name: PausedTask(pause, paused_jobs[name]) for name, pause in paused_tasks.items()}
        return QueueReading(tuple(queues), tasks, deliveries)

    async def _lengths(self, lists: Sequence[str]) -> list[int]:
        pipe = self._parts.broker_redis.pipeline(transaction=False)
        for name in lists:
            pipe.llen(name)
        return [int(length) for length in await pipe.execute()] if lists else []

    async def _oldest(self, lists: Sequence[str], now: float) -> float | None:
        """How long the first message of these lists has waited, as its publisher's clock has it."""
        found: Any = await _OLDEST.run(self._parts.broker_redis, list(lists), [])
        times = [seconds_since_epoch(text.decode(errors="replace")) for text in found]
        known = [each for each in times if each is not None]
        return max(0.0, now - min(known)) if known else None
