"""Finds and moves what waits in Redis: jobs by id, and the times at which they are due."""

from base64 import b64decode
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis

from service.broker import messages
from service.broker.pauses import PausedList, read_paused_lists
from service.redis.keys import BrokerKeys

_SCHEDULED: Final = ".scheduled"
_NO_QUEUES: Final = (".dead", ".pidbox")
_FIRST: Final = 1.0  # due before anything else but what was cancelled, which take.lua knows by a 0


class WaitingJobs:
    """The messages of all queues. Every method asks Redis, and blocks until it has answered."""

    def __init__(self, client: Redis, keys: BrokerKeys) -> None:
        self._client: Any = client
        self._keys = keys

    def queues(self) -> list[str]:
        """The queues that have messages, due or not."""
        lists = (*self._lists(), *(each.beside for each in self._of_tasks()))
        return sorted({self._queue_of(name) for name in (*lists, *self._sets())})

    def count_due(self) -> int:
        """How many messages are not known to wait for a moment, nor for what is paused."""
        lists, paused_tasks = self._lists(), self._client.hkeys(self._keys.paused_tasks)
        of_resumed = (e for e in self._of_tasks() if e.task.encode() not in paused_tasks)
        keys = {**dict(zip(lists, lists, strict=True)), **{e.key: e.beside for e in of_resumed}}
        due = [self._client.llen(key) for key in keys if not self._is_paused(keys[key])]
        now = self._now()
        due += [self._client.zcount(key, "-inf", now) for key in self._sets_in_work()]
        return int(sum(due))

    def read(self) -> Iterator[tuple[str, Any, Any]]:
        """Of each message that waits its queue, its headers and its decoded body."""
        for queue, _, message in self._messages():
            payload = messages.read(message)
            body, encoding = payload["body"], payload["properties"].get("body_encoding")
            decoded = messages.decode_json(b64decode(body) if encoding == "base64" else body)
            yield queue, payload["headers"], decoded

    def bring_forward(self, job_id: str) -> str | None:
        """Have this job be the first of its queue, whenever it is due; the queue, if it waits."""
        wanted = job_id.encode()
        for queue, key, message in self._messages():
            if wanted in message and messages.job_id(message) == job_id:
                with self._client.pipeline() as pipe:
                    if key.endswith(_SCHEDULED):
                        pipe.zrem(key, message)
                    else:
                        pipe.lrem(key, 1, message)
                    pipe.zadd(self._keys.scheduled_of(queue)[0], {message: _FIRST})
                    pipe.execute()
                return queue
        return None

    def next_due(self) -> float | None:
        """In how many seconds the next scheduled job is due, of a queue that is not paused."""
        now, sets = self._now(), self._sets_in_work()
        firsts = (self._client.zrange(key, 0, 0, withscores=True) for key in sets)
        return min((found[0][1] - now for found in firsts if found), default=None)

    def move_time(self, seconds: float) -> None:
        """Have all scheduled jobs be due so much earlier, but those of paused queues."""
        for key in self._sets_in_work():
            for message in self._client.zrange(key, 0, -1):
                self._client.zincrby(key, -seconds, message)

    def _messages(self) -> Iterator[tuple[str, str, bytes]]:
        """The queue, the key and the message of each that waits."""
        for key in self._lists():
            for message in reversed(self._client.lrange(key, 0, -1)):
                yield self._queue_of(key), key, message
        for each in self._of_tasks():
            for message in reversed(self._client.lrange(each.key, 0, -1)):
                yield self._queue_of(each.beside), each.key, message
        for key in self._sets():
            for message in self._client.zrange(key, 0, -1):
                yield self._queue_of(key), key, message

    def _now(self) -> float:
        seconds, micro = self._client.time()
        return float(seconds + micro / 1e6)

    def _sets_in_work(self) -> list[str]:
        return [key for key in self._sets() if not self._is_paused(key)]

    def _is_paused(self, key: str) -> bool:
        """Whether the queue that this list or sorted set is of is paused."""
        return bool(self._client.hexists(self._keys.paused_queues, self._queue_of(key)))

    def _of_tasks(self) -> list[PausedList]:
        """The lists of paused tasks, and of resumed ones that are not empty yet."""
        return [*read_paused_lists(self._keys, self._client.hgetall(self._keys.paused_lists))]

    def _lists(self) -> list[str]:
        return sorted(filter(self._may_be_queue, self._scan("list")))

    def _sets(self) -> list[str]:
        return sorted(name for name in self._scan("zset") if name.endswith(_SCHEDULED))

    def _scan(self, kind: str) -> list[str]:
        pattern = f"{self._keys.prefix}*"
        found = self._client.scan_iter(match=pattern, count=1000, _type=kind)
        return [key.decode(errors="replace") for key in found]

    def _may_be_queue(self, key: str) -> bool:
        name = key.removeprefix(self._keys.prefix)
        ours = name.startswith((f"{self._keys.unacked}_", "service:"))
        return not ours and not name.endswith(_NO_QUEUES)

    def _queue_of(self, key: str) -> str:
        name = key.removeprefix(self._keys.prefix).removesuffix(_SCHEDULED)
        return name.partition(self._keys.separator)[0]
