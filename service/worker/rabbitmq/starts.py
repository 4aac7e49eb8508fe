"""Counts in Redis how often a suspect was begun."""

from typing import Any, Final

from service.jobs.celery.app import QuartCelery
from service.parts import parts_of

_SUSPECT_AFTER: Final = 2  # deliveries: one loss may be chance, as when a worker is replaced
_COUNT: Final = "count"
_TTL: Final = 86_400  # seconds


class Starts:
    """The counts of all suspects. Each method raises one of TRANSIENT."""

    def __init__(self, celery: QuartCelery) -> None:
        self._celery: Any = celery
        last = celery.max_deliveries - 1
        self.suspect_after = min(_SUSPECT_AFTER, last) or 1
        # A job that was begun so often as a suspect, and once or twice before, is given up.
        self.enough = max(1, celery.max_deliveries - self.suspect_after)

    def of(self, job_id: str) -> int:
        """How often a job was begun since it has been a suspect."""
        return int(self._client.hget(self._key(job_id), _COUNT) or 0)

    def note(self, job_id: str) -> None:
        """It begins."""
        key = self._key(job_id)
        with self._client.pipeline() as pipe:
            pipe.hincrby(key, _COUNT, 1)
            pipe.expire(key, _TTL)
            pipe.execute()

    def forget(self, job_id: str) -> None:
        """It is given up: whoever replays it begins anew."""
        self._client.delete(self._key(job_id))

    @property
    def _client(self) -> Any:
        return self._celery.backend.client

    def _key(self, job_id: str) -> str:
        return parts_of(self._celery.quart_app).keys.redelivered(job_id, "suspect")
