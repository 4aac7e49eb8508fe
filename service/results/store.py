"""Reads stored results without ever blocking the event loop."""

from typing import Final, cast

from redis.asyncio import Redis

from service.errors import InvalidJobIdError, UnknownJobError
from service.redis.bounded import bounded
from service.results.model import Result, decode, is_job_id
from service.settings import Settings

# Celery's own name for the record (BaseKeyValueStoreBackend.task_keyprefix).
KEY_PREFIX: Final = "celery-task-meta-"

_REPLACE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
"""


def key_prefix(settings: Settings) -> str:
    """What begins the key of each record, as Celery's backend makes it from its settings."""
    return _backend_prefix(settings) + KEY_PREFIX


def own_prefix(settings: Settings) -> str:
    """What begins the keys that are this service's own, and neither a queue's nor a result's.

    They lie beside the results. Where only the broker has a prefix it is theirs too: of two
    services that share a Redis, results do not meet, for ids differ, but these would.
    """
    options = settings.celery.get("broker_transport_options") or {}
    return _backend_prefix(settings) or str(options.get("global_keyprefix") or "")


def _backend_prefix(settings: Settings) -> str:
    options = settings.celery.get("result_backend_transport_options") or {}
    prefix = str(options.get("global_keyprefix") or "")
    return f"{prefix}_" if prefix and prefix[-1] not in ":_-." else prefix


class ResultStore:
    """The read side of Celery's Redis result backend.

    It decodes the raw record: Celery's own `AsyncResult` blocks, takes an unknown id for a
    pending one, and rebuilds exception classes named by whoever wrote the record.
    """

    def __init__(self, client: Redis, *, timeout: float, key_prefix: str = KEY_PREFIX) -> None:
        self._client = client
        self._timeout = timeout
        self._key_prefix = key_prefix

    def key(self, job_id: str) -> str:
        """The record's key in Redis."""
        return self._key_prefix + job_id

    async def get(self, job_id: str) -> Result:
        """What is known of a job now. Raises what `read` raises."""
        return decode(job_id, await self.read(job_id))

    async def read(self, job_id: str) -> bytes:
        """A job's record as it is stored now.

        Raises InvalidJobIdError, UnknownJobError, BrokerUnavailableError.
        """
        if not is_job_id(job_id):
            raise InvalidJobIdError(job_id)
        async with bounded(self._timeout):
            stored = cast("bytes | None", await self._client.get(self.key(job_id)))
        if stored is None:
            raise UnknownJobError(job_id)
        return stored

    async def ping(self) -> None:
        """Nothing, if Redis answers. Raises BrokerUnavailableError."""
        async with bounded(self._timeout):
            await self._client.ping()

    async def replace(self, job_id: str, stored: bytes, record: bytes) -> bool:
        """Store and publish another record in the place of this one, if it is still there.

        Raises BrokerUnavailableError.
        """
        async with bounded(self._timeout, maybe_accepted=True):
            done = await self._client.eval(_REPLACE, 1, self.key(job_id), stored, record)
        return bool(done)
