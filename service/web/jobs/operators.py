"""What an operator's page of a job has besides, for those who may see it."""

from contextlib import suppress

from quart import current_app

from service.access.access import access_of, caller_of
from service.access.policy import Action
from service.errors import ResultsUnavailableError
from service.results.model import State
from service.results.store import StoredRecord
from service.web.http.site import site_of


async def may_watch() -> bool:
    """Whether the request's caller finds the dashboard's pages in the navigation."""
    return site_of(current_app).has_dashboard and await _may(Action.WATCH)


async def details_of(record: StoredRecord) -> object | None:
    """What the dashboard knows of the job; None for anybody who is no operator.

    Raises ResultsUnavailableError.
    """
    site = site_of(current_app)
    if site.has_dashboard and site.job_details and await _may(Action.OPERATE):
        return await site.job_details[0](record)
    return None


class DetailsByState:
    """Finds details for one answer: of each job anew when its state changes, and not before.

    What they are found by costs more than the record, which a job may change ten times a second.
    """

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._found: dict[str, tuple[State, object | None]] = {}

    async def find(self, record: StoredRecord) -> object | None:
        """The details; None also where the answer shows none, or Redis does not tell them now."""
        if not self._is_shown:
            return None
        state, details = self._found.get(record.job_id, (None, None))
        if state is not record.result.state:
            with suppress(ResultsUnavailableError):
                details = await details_of(record)
            self._found[record.job_id] = record.result.state, details
        return details


async def _may(action: Action) -> bool:
    # Asked of the service as a whole, as the dashboard does: who may do all with a job of their own
    # is no operator.
    return access_of(current_app).may_do(await caller_of(), action)
