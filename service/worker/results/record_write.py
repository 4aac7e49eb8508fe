"""One record that is to be stored, the script that stores it, and how to store it at once."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from service.broker.celery_worker import is_stopping
from service.errors import ResultsUnavailableError, UnstorableResultError
from service.redis.script import Script
from service.redis.transient import answer_of, will_pass

logger: Final = logging.getLogger(__name__)

STORE: Final = Script.load("service.worker.results", "store")

_FIRST_PAUSE: Final = 0.1  # seconds; doubled with each attempt
_LAST_PAUSE: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class RecordWrite:
    """One record on its way to Redis."""

    key: bytes
    record: str
    ttl: int  # seconds; 0 is for ever
    final: bool  # the job has ended with it


def refusal_of(outcome: Any) -> str | None:
    """Why Redis did not store a record, as the script answers; None if the script is content."""
    if isinstance(outcome, int):
        return None
    return outcome.decode(errors="replace") if isinstance(outcome, bytes) else str(outcome)


def pauses() -> Iterator[float]:
    """Seconds to wait after each attempt in turn."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, _LAST_PAUSE)


def store_blocking(client: Redis, write: RecordWrite) -> None:
    """Store a record with a blocking client, however long Redis is away.

    Raises UnstorableResultError if Redis refuses this very record, and ResultsUnavailableError if
    the worker has to stop meanwhile.
    """
    waits = pauses()
    is_away = False
    while True:
        try:
            (outcome,) = STORE.run_blocking(client, [write.key], [write.record, write.ttl])
            reason = refusal_of(outcome)
        except ResponseError as error:
            reason = answer_of(error)
        except (RedisError, OSError) as error:
            reason = f"BUSY {error!r}"
        if reason is None:
            return
        if not will_pass(reason):
            raise UnstorableResultError(reason)
        if is_stopping():
            raise ResultsUnavailableError(reason)
        if not is_away:
            is_away = True
            logger.warning("Redis is away, a result has to wait: %s", reason)
        # The address may lead to another server than this one by now.
        client.connection_pool.disconnect(inuse_connections=False)
        time.sleep(next(waits))
