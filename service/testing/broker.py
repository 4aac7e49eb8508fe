"""Finds and moves what waits in Redis: jobs by id, and the times at which they are due."""

from base64 import b64decode
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis

from service.broker import messages
from service.redis.keys import BrokerKeys

_SCHEDULED: Final = ".scheduled"
_NO_QUEUES: Final = (".dead", ".pidbox")
_FIRST: Final = -1.0  # due before anything else


class WaitingJobs:
    """The messages of all queues. Every method asks Redis, and blocks until it has answered."""

    def __init__(self, client: Redis, keys: BrokerKeys) -> None:
        self._client: Any = client
        self._keys = keys

    def queues(self) -> list[str]:
        """The queues that have messages, due or not."""
        names = {*self._scan("list"), *self._sets()}
        return sorted({self._queue_of(name) for name in names if self._may_be_queue(name)})

    def count_due(self) -> int:
        """How many messages are not known to wait for a moment."""
        lists = [name for name in self._scan("list") if self._may_be_queue(name)]
        return sum(self._client.llen(name) for name in lists)

    def read(self) -> Iterator[tuple[str, Any, Any]]:
        """Of each message that waits its queue, its headers and its decoded body."""
        for key, message in self._messages():
            payload = messages.read(message)
            body, encoding = payload["body"], payload["properties"].get("body_encoding")
            decoded = messages.decode_json(b64decode(body) if encoding == "base64" else body)
            yield self._queue_of(key), payload["headers"], decoded

    def bring_forward(self, job_id: str) -> str | None:
        """Have this job be the first of its queue, whenever it is due; the queue, if it waits."""
        wanted = job_id.encode()
        for key, message in self._messages():
            if wanted in message and messages.job_id(message) == job_id:
                if key.endswith(_SCHEDULED):
                    self._client.zrem(key, message)
                else:
                    self._client.lrem(key, 1, message)
                queue = self._queue_of(key)
                self._client.zadd(self._keys.scheduled_of(queue)[0], {message: _FIRST})
                return queue
        return None

    def next_due(self) -> float | None:
        """In how many seconds the next scheduled job is due; None where there is none."""
        seconds, micro = self._client.time()
        now = seconds + micro / 1e6
        firsts = (self._client.zrange(key, 0, 0, withscores=True) for key in self._sets())
        return min((found[0][1] - now for found in firsts if found), default=None)

    def move_time(self, seconds: float) -> None:
        """Have all scheduled jobs be due so much earlier."""
        for key in self._sets():
            for message in self._client.zrange(key, 0, -1):
                self._client.zincrby(key, -seconds, message)

    def _messages(self) -> Iterator[tuple[str, bytes]]:
        for key in sorted(filter(self._may_be_queue, self._scan("list"))):
            for message in reversed(self._client.lrange(key, 0, -1)):
                yield key, message
        for key in self._sets():
            for message in self._client.zrange(key, 0, -1):
                yield key, message

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
