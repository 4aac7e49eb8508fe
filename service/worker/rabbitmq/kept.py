"""Keeps jobs going whose messages RabbitMQ has taken back, as they ran for too long.

Before version 3.12 a server knows one `consumer_timeout` for all: it then closes the channel, and
delivers again what the worker has. A job that is kept has a key in Redis for as long as it runs; a
copy of its message waits for its end, wherever it was delivered.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from celery.worker import state

from service.broker.celery_worker import all_of
from service.broker.messages import DELIVERIES
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.connections import COPY
from service.parts import parts_of
from service.redis.transient import TRANSIENT
from service.results.attempt import Attempt, is_begun

logger: Final = logging.getLogger(__name__)

_PAUSE: Final = 1.0  # seconds between two looks, and until a copy is looked at first
_TTL: Final = 30  # seconds without a renewal after which its worker is taken for dead
# Headers that count how often a message was delivered before.
_DELIVERED: Final = ("x-delivery-count", "x-acquired-count", DELIVERIES)
_SINCE: Final = (3, 12)  # the consumers of these servers have timeouts of their own


class KeptJobs:
    """Those of all workers. `is_kept` raises one of TRANSIENT."""

    def __init__(self, celery: QuartCelery) -> None:
        self._celery: Any = celery
        self._requests: set[Any] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, requests: Iterable[Any]) -> None:
        """Have these go on."""
        with self._lock:
            for request in requests:
                request.is_kept = True
                self._requests.add(request)
        self._renew()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="kept-jobs", daemon=True)
            self._thread.start()

    def is_kept(self, job_id: str) -> bool:
        """Whether a worker goes on with this job, although RabbitMQ has its message."""
        return bool(self._celery.backend.client.exists(self._key(job_id)))

    def _run(self) -> None:
        while self._requests:
            time.sleep(_PAUSE)
            self._renew()

    def _renew(self) -> None:
        running = set(all_of(state.active_requests))
        with self._lock:
            ended, self._requests = self._requests - running, self._requests & running
            kept = [*self._requests]
        try:
            with self._celery.backend.client.pipeline() as pipe:
                for request in kept:
                    pipe.set(self._key(request.id), 1, ex=_TTL)
                for request in ended:
                    pipe.delete(self._key(request.id))
                pipe.execute()
        except TRANSIENT as error:
            logger.warning("That %d jobs go on could not be told to Redis: %s", len(kept), error)

    def _key(self, job_id: str) -> str:
        return parts_of(self._celery.quart_app).keys.redelivered(job_id, "kept")


class _Copy(NamedTuple):
    message: Any
    handle: Callable[[Any], object]
    look_at: float


class Copies:
    """Messages that came again, each until its job is not kept any more. In the consumer's thread.

    A worker hears that its messages were taken back when another one has them already: so a copy is
    looked at a moment after it has come. By then the first of two messages that were published has
    begun its job, and the second one, which is marked, is acknowledged.
    """

    def __init__(self, celery: QuartCelery, kept: KeptJobs, call_after: Callable[..., Any]) -> None:
        self._celery: Any = celery
        self._kept = kept
        self._call_after = call_after
        self._waiting: list[_Copy] = []
        self._looks = False

    def handle(self, message: Any, handle: Callable[[Any], object]) -> None:
        """Have Celery handle a message, now or later."""
        if not (COPY in message.headers or _comes_again(message)):
            handle(message)
            return
        self._waiting.append(_Copy(message, handle, time.monotonic() + _PAUSE))
        self._look_later()

    def clear(self) -> None:
        """The channel is lost."""
        self._waiting.clear()

    def _look_later(self) -> None:
        if not self._looks:
            self._looks = True
            self._call_after(_PAUSE, self._look)

    def _look(self) -> None:
        self._looks = False
        now, waiting, self._waiting = time.monotonic(), self._waiting, []
        for place, copy in enumerate(waiting):
            try:
                if copy.look_at > now or self._kept.is_kept(str(copy.message.headers.get("id"))):
                    self._waiting.append(copy)
                elif self._is_second(copy.message):
                    copy.message.ack()
                else:
                    copy.handle(copy.message)
            except TRANSIENT:
                self._waiting += waiting[place:]  # to ask about each may take as long
                break
        if self._waiting:
            self._look_later()

    def _is_second(self, message: Any) -> bool:
        """Whether the job runs for another message, which RabbitMQ has until the job has ended."""
        headers = message.headers
        if COPY not in headers or "id" not in headers or _comes_again(message):
            return False  # it may be this one that the job was begun for
        backend = self._celery.backend
        stored = backend.client.get(backend.get_key_for_task(headers["id"]))
        attempt = Attempt(headers.get("retries") or 0, headers.get("queued_at"), False)
        if not stored or not is_begun(attempt, stored):
            return False
        logger.info("Job %s has two messages in RabbitMQ, and runs for the first", headers["id"])
        return True


def _comes_again(message: Any) -> bool:
    """Whether it was delivered before; burying publishes anew what was so too often."""
    redelivered = message.delivery_info.get("redelivered")
    return bool(redelivered) or any(message.headers.get(name) for name in _DELIVERED)


def has_one_timeout(connection: Any) -> bool:
    """Whether the server, which has told its version, knows no timeout of a consumer's own."""
    version = str((connection.server_properties or {}).get("version", ""))
    numbers = version.split(".")[:2]
    if not all(number.isdigit() for number in numbers) or len(numbers) < len(_SINCE):
        return False
    return tuple(map(int, numbers)) < _SINCE
