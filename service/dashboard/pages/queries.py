"""Which of the recent jobs the address of a page asks for."""

from typing import Any, Final

from quart import request

from service.access.policy import Action
from service.dashboard.events.history import SPANS
from service.dashboard.events.lanes import GROUPINGS
from service.dashboard.events.recent import Query
from service.dashboard.pages.sign_in import may, sees_in_full
from service.results.model import State

STATES: Final = tuple(state.value for state in State if state is not State.PROGRESS)
COLUMNS: Final = {
    "task": "Task",
    "state": "State",
    "queue": "Queue",
    "worker": "Worker",
    "queued": "Queued",
    "started": "Started",
    "run": "Run time",
    "id": "Id",
}
FILTERS: Final = ("task", "worker", "queue", "failure", "tag")

_MAX_TEXT: Final = 300  # characters


async def query_of() -> Query:
    """What the address asks for: a state, a text, filters, a span, lanes, an order, a page."""
    given: Any = request.args
    sort, state = given.get("sort", "queued"), given.get("state", "")
    span, lanes = given.get("span", "hour"), given.get("lanes", "worker")
    return Query(
        state=state if state in STATES else "",
        search=given.get("q", "")[:_MAX_TEXT],
        **{name: given.get(name, "")[:_MAX_TEXT] for name in FILTERS},
        in_full=await sees_in_full(),
        may_operate=await may(Action.OPERATE),
        span=span if span in SPANS else "hour",
        lanes=lanes if lanes in GROUPINGS else "worker",
        sort=sort if sort in COLUMNS else "queued",
        descending=given.get("order", "desc") != "asc",
        page=max(1, given.get("page", 1, type=int)),
    )
