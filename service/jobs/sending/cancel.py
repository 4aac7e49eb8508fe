"""Cancels jobs: first in the record, which every worker reads before it runs a body."""

import logging
from typing import Final

from celery.exceptions import TaskRevokedError

from service.errors import BrokerUnavailableError, JobFinishedError, ResultsUnavailableError
from service.jobs.sending.enqueuer import Enqueuer
from service.results.model import Result, State
from service.results.record import decode, encode_ended
from service.results.store import ResultStore

logger: Final = logging.getLogger(__name__)

_WAITING: Final = frozenset({State.QUEUED, State.RETRY})
_ATTEMPTS: Final = 10  # of changing a record that others change meanwhile


async def cancel(store: ResultStore, enqueuer: Enqueuer, job_id: str) -> Result:
    """Cancel a job: one that waits at once; one that runs as soon as its worker's pool can.

    Returns what is known of the job then. Raises JobFinishedError, UnknownJobError,
    InvalidJobIdError, ResultsUnavailableError and BrokerUnavailableError.
    """
    for _ in range(_ATTEMPTS):
        record = await store.read(job_id)
        result = record.result
        if result.ready:
            raise JobFinishedError(job_id, result.state)
        if result.state not in _WAITING:
            await enqueuer.revoke(job_id)
            return result
        revoked = encode_ended(record.data, State.REVOKED, TaskRevokedError("cancelled"))
        if await store.replace(record, revoked):
            try:
                await enqueuer.revoke(job_id)
            except BrokerUnavailableError as error:
                # Workers read the record; the message only saves them from taking the job.
                logger.warning(
                    "The workers were not told that job %s is cancelled: %s", job_id, error
                )
            return decode(job_id, revoked)
    raise ResultsUnavailableError("the job's record does not stop changing")
