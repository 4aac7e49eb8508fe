"""Lets any number of followers share one feed, which is made again when its connection is lost."""

import asyncio
import logging
from contextlib import closing
from contextvars import Context
from functools import partial
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import (
    InvalidJobIdError,
    ResultTimeoutError,
    TooManyWaitersError,
    UnknownJobError,
)
from service.redis.keys import ResultKeys
from service.redis.transient import reason_of
from service.results.feed import Feed
from service.results.follower import Change, Follower, Topic
from service.results.model import Result, is_job_id
from service.results.store import StoredRecord
from service.settings import Settings

logger: Final = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.05  # seconds before the first attempt to connect again; then twice as long
_MAX_PAUSE: Final = 1.0
_JOBS_PER_WAITER: Final = 10  # following so many more jobs costs about as much as one more follower


class Watcher:
    """Reads jobs and hears of their changes on one connection, for all followers."""

    def __init__(self, client: Redis, settings: Settings, keys: ResultKeys) -> None:
        self._client = client
        self._timeout = settings.redis_timeout
        self._limit = settings.max_waiters
        self._keys = keys
        self._topics: dict[str, Topic] = {}  # by the key of the record
        self._feed: Feed | None = None
        self._feeding: asyncio.Task[None] | None = None
        self.waiters = 0  # followers that are not closed, by what they cost
        self.stopping = asyncio.Event()  # set when the server stops, so that every stream ends

    async def begin(self) -> None:
        """Be of use again: an app can be started anew, on another event loop, too."""
        self.stopping = asyncio.Event()

    async def follow(self, *job_ids: str, interval: float) -> Follower:
        """Follow jobs from their present records on. Close the follower when done.

        Jobs are subscribed to before their records are read, so no change is missed.
        `interval` is in seconds; see Follower. Raises InvalidJobIdError, TooManyWaitersError,
        ResultsUnavailableError.
        """
        for job_id in job_ids:
            if not is_job_id(job_id):
                raise InvalidJobIdError(job_id)
        cost = 1 + len(job_ids) // _JOBS_PER_WAITER
        if self.waiters + cost > self._limit:
            raise TooManyWaitersError(self._limit)
        topics = {job_id: self._topic(job_id) for job_id in job_ids}
        follower = Follower(
            topics,
            interval=interval,
            stopping=self.stopping,
            leave=self._leave,
            on_close=partial(self._release, cost),
        )
        for topic in topics.values():
            topic.followers.add(follower)
        self.waiters += cost
        try:
            await follower.begin(self._timeout)
        except BaseException:
            follower.close()
            raise
        return follower

    async def wait(self, job_id: str, timeout: float) -> Result:
        """The job's result once it has ended.

        Raises ResultTimeoutError, UnknownJobError, and what `follow` raises.
        """
        with closing(await self.follow(job_id, interval=timeout)) as follower:
            while not (result := follower.record(job_id).result).ready:
                if not isinstance(await anext(follower, None), Change):
                    raise ResultTimeoutError(job_id, timeout)
        return result

    def stop(self) -> None:
        """End every follower: the server is stopping."""
        self.stopping.set()
        for topic in self._topics.values():
            for follower in topic.followers:
                follower.wake()

    async def aclose(self) -> None:
        """End the connection."""
        self.stop()
        if self._feeding is not None:
            if self._feed is not None:
                self._feed.stop()
            self._feeding.cancel()
            await asyncio.wait([self._feeding], timeout=self._timeout)

    def _topic(self, job_id: str) -> Topic:
        key = self._keys.record(job_id)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(Change(job_id, None))
            if self._feed is not None:
                self._feed.add([key])
        if self._feeding is None or self._feeding.done():
            # Not in the caller's context, or a request, with all it holds, would live as long.
            self._feeding = asyncio.create_task(self._keep_feeding(), context=Context())
        return topic

    def _release(self, cost: int) -> None:
        self.waiters -= cost

    def _leave(self, topic: Topic, follower: Follower) -> None:
        """Take a follower from a topic, and forget the topic with its last one."""
        topic.followers.remove(follower)
        if not topic.followers:
            key = self._keys.record(topic.change.job_id)
            del self._topics[key]
            if self._feed is not None:
                self._feed.drop(key)

    async def _keep_feeding(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._feed = Feed(self._client, timeout=self._timeout, changed=self._on_change)
            self._feed.add(self._topics)
            try:
                await self._feed.run()
            except (RedisError, OSError) as error:
                logger.warning("The connection that follows jobs is lost: %s", reason_of(error))
            else:
                return  # it was stopped
            finally:
                self._feed = None
                answered = [topic for topic in self._topics.values() if topic.answered.is_set()]
                for topic in answered:
                    topic.answered.clear()
            pause = _FIRST_PAUSE if answered else min(pause * 2, _MAX_PAUSE)
            await asyncio.sleep(pause)

    def _on_change(self, key: str, data: bytes | None) -> None:
        topic = self._topics.get(key)
        if topic is None:
            return
        topic.answered.set()
        known = topic.change.record
        if data != (known and known.data):
            job_id = topic.change.job_id
            topic.change = Change(job_id, None if data is None else _readable(job_id, data))
            for follower in topic.followers:
                follower.put(topic.change)


def _readable(job_id: str, data: bytes) -> StoredRecord | None:
    """The record, decoded once for all followers; None if it cannot be read, as for no record."""
    record = StoredRecord(job_id, data)
    try:
        record.result  # noqa: B018  raises
    except UnknownJobError:
        return None
    return record
