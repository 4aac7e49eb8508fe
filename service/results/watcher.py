"""Wakes those who wait for a job when its record changes: one connection, many waiters."""

import asyncio
import contextvars
import logging
from collections import deque
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import (
    InvalidJobIdError,
    ResultsUnavailableError,
    ResultTimeoutError,
    TooManyWaitersError,
    UnknownJobError,
)
from service.redis.keys import ResultKeys
from service.results.feed import Feed
from service.results.model import Result, is_job_id
from service.results.record import decode
from service.settings import Settings

logger: Final = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.05  # seconds before the first attempt to connect again; then twice as long
_LONGEST_PAUSE: Final = 1.0
_KEPT: Final = 64  # changes kept for a waiter that is slow to take them; then the oldest go


class _Topic:
    """One job that somebody waits for: what is known of it, and who."""

    __slots__ = ("answered", "key", "stored", "watches")

    def __init__(self, key: str) -> None:
        self.key = key
        self.stored: bytes | None = None
        self.answered = asyncio.Event()  # set for as long as the connection that told it lives
        self.watches: set[Watch] = set()


class Watch:
    """One waiter's view of one job. Close it, or the job is followed for ever."""

    __slots__ = ("_changes", "_topic", "_waiting", "_watcher", "job_id", "stored")

    def __init__(self, watcher: "Watcher", topic: _Topic, job_id: str) -> None:
        self._watcher = watcher
        self._topic = topic
        self._changes: deque[bytes | None] = deque(maxlen=_KEPT)
        self._waiting: asyncio.Future[None] | None = None
        self.job_id = job_id
        self.stored = b""  # the record as this waiter knows it

    @property
    def result(self) -> Result:
        """The record as this waiter knows it, decoded."""
        return decode(self.job_id, self.stored)

    @property
    def stopping(self) -> bool:
        """Whether there will be no more changes, because the server is stopping."""
        return self._watcher.stopping

    async def change(self, timeout: float) -> bool:
        """Wait for a record that differs, and make it `stored`.

        False: there was none within `timeout`, or the server is stopping. Raises
        UnknownJobError when the job is known no more, ResultsUnavailableError when the time is up
        and Redis cannot be asked.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._watcher.stopping:
                    while self._changes:
                        if self._take(self._changes.popleft()):
                            return True
                    self._waiting = asyncio.get_running_loop().create_future()
                    await self._waiting
        except TimeoutError:
            if not self._topic.answered.is_set():
                raise ResultsUnavailableError("the connection was lost") from None
        finally:
            self._waiting = None
        return False

    def begin(self, stored: bytes | None) -> None:
        """Take this for what is known; what was put until now is older. Raises UnknownJobError."""
        self._changes.clear()
        self._take(stored)

    def close(self) -> None:
        """Free whatever this waiter held; harmless when done already."""
        self._watcher.forget(self._topic, self)

    def put(self, stored: bytes | None) -> None:
        """Give the waiter what is stored now (None: nothing)."""
        self._changes.append(stored)
        self.wake()

    def wake(self) -> None:
        """Have the waiter look around."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _take(self, stored: bytes | None) -> bool:
        if stored is None:
            raise UnknownJobError(self.job_id)
        changed = stored != self.stored
        self.stored = stored
        return changed


class Watcher:
    """Lets any number of waiters follow jobs on one connection, which is made again when lost."""

    def __init__(self, client: Redis, settings: Settings, keys: ResultKeys) -> None:
        self._client = client
        self._timeout = settings.redis_timeout
        self._limit = settings.max_waiters
        self._keys = keys
        self._topics: dict[str, _Topic] = {}
        self.waiters = 0
        self._feed: Feed | None = None
        self._following: asyncio.Task[None] | None = None
        self.stopping = False

    async def watch(self, job_id: str) -> Watch:
        """Follow a job from its present record on. Close the watch when done.

        Raises InvalidJobIdError, UnknownJobError, TooManyWaitersError, ResultsUnavailableError.
        """
        if not is_job_id(job_id):
            raise InvalidJobIdError(job_id)
        if self.waiters >= self._limit:
            raise TooManyWaitersError(self._limit)
        topic = self._follow(self._keys.record(job_id))
        watch = Watch(self, topic, job_id)
        topic.watches.add(watch)
        self.waiters += 1
        try:
            watch.begin(await self._answer(topic))
        except BaseException:
            watch.close()
            raise
        return watch

    async def wait(self, job_id: str, timeout: float) -> Result:
        """The job's result once it has ended. Raises ResultTimeoutError, and what `watch` does."""
        watch = await self.watch(job_id)
        try:
            async with asyncio.timeout(timeout):
                while not (result := watch.result).ready:
                    if not await watch.change(timeout) and self.stopping:
                        break
        except TimeoutError:
            pass
        finally:
            watch.close()
        if not result.ready:
            raise ResultTimeoutError(job_id, timeout)
        return result

    def forget(self, topic: _Topic, watch: Watch) -> None:
        """Drop a waiter, and with the last one the topic."""
        if watch not in topic.watches:
            return
        topic.watches.remove(watch)
        self.waiters -= 1
        if not topic.watches:
            del self._topics[topic.key]
            if self._feed is not None:
                self._feed.drop(topic.key)

    def stop(self) -> None:
        """Send every waiter home: the server is stopping."""
        self.stopping = True
        for topic in self._topics.values():
            for watch in topic.watches:
                watch.wake()

    async def aclose(self) -> None:
        """End the connection."""
        self.stop()
        if self._following is not None:
            if self._feed is not None:
                self._feed.stop()
            self._following.cancel()
            await asyncio.wait([self._following], timeout=self._timeout)

    def _follow(self, key: str) -> _Topic:
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = _Topic(key)
            if self._feed is not None:
                self._feed.add([key])
        if self._following is None or self._following.done():
            # Not in the caller's context: a request, and all it holds, would live as long.
            self._following = asyncio.create_task(
                self._keep_following(), context=contextvars.Context()
            )
        return topic

    async def _answer(self, topic: _Topic) -> bytes | None:
        try:
            async with asyncio.timeout(self._timeout):
                await topic.answered.wait()
        except TimeoutError as error:
            raise ResultsUnavailableError(f"no answer within {self._timeout:g} s") from error
        return topic.stored

    async def _keep_following(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._feed = Feed(self._client, timeout=self._timeout, changed=self._on_change)
            self._feed.add(self._topics)
            try:
                await self._feed.run()
            except (RedisError, OSError) as error:
                logger.warning("The connection that follows jobs is lost: %r", error)
            else:
                return  # it was stopped
            finally:
                self._feed = None
                answered = [topic for topic in self._topics.values() if topic.answered.is_set()]
                for topic in answered:
                    topic.answered.clear()
            pause = _FIRST_PAUSE if answered else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    def _on_change(self, key: str, stored: bytes | None) -> None:
        topic = self._topics.get(key)
        if topic is None:
            return
        topic.answered.set()
        if stored != topic.stored:
            topic.stored = stored
            for watch in topic.watches:
                watch.put(stored)
