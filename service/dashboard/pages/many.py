"""Asks once more, and then retries, cancels or drops all the jobs that a filter shows."""

from typing import Any, Final

from quart import Blueprint, current_app, redirect, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.access.access import audit, caller_of
from service.access.policy import Action
from service.dashboard.bulk import MOST, Act, carry_out, plan
from service.dashboard.events.recent import Query, began_at
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.queries import query_of
from service.dashboard.pages.sign_in import require
from service.parts import parts_of
from service.signals import JobEvent
from service.web.http.site import render
from service.web.limits.checks import read_form

many = Blueprint("many", __name__)
many.before_request(require(Action.OPERATE))

_STATES: Final = {Act.RETRY: "FAILURE", Act.DROP: "FAILURE"}  # of the jobs that it can be done to


@many.get("/<act>")
async def ask(act: str) -> ResponseReturnValue:
    """Say to how many jobs it would be done, and ask."""
    query, known = await query_of(), _known_act(act)
    own = dashboard_of(current_app)
    own.reader.expire()
    now = await own.read(query)
    found = await plan(parts_of(current_app), known, _affected(known, query, now.at))
    page = await render(
        "dashboard/many/jobs.html",
        act=known.value,
        plan=found,
        until=now.at,
        most=MOST,
        query=query,
        back=_filtered_list(query),
        to=url_for("service.many.do", act=act, **_filters(query)),
    )
    return page, {"Cache-Control": "no-store"}


@many.post("/<act>")
async def do(act: str) -> ResponseReturnValue:
    """Do it to the jobs that were there when it was asked."""
    query, known, parts = await query_of(), _known_act(act), parts_of(current_app)
    posted = await read_form()
    until = posted.get("until", 0.0, type=float)
    own = dashboard_of(current_app)
    await own.read(query)
    found = await plan(parts, known, _affected(known, query, until))
    caller = await caller_of()
    by = caller.id if caller else ""
    done = await carry_out(parts, known, found.records, by=by)
    await audit(act, f"{done} jobs: {_in_words(query)}")
    if known is Act.DROP and query.failure and done == len(found.records) and not found.left:
        await own.reader.forget_failures(query.failure)
    own.reader.expire()
    return redirect(_filtered_list(query, done=act, number=done), 303)


def _affected(act: Act, query: Query, until: float) -> list[JobEvent]:
    """The jobs that the filter shows, of those that the act may be for, as of a moment."""
    jobs = dashboard_of(current_app).reader.jobs.fitting(query)
    if state := _STATES.get(act):
        return [job for job in jobs if job.state == state and job.at <= until]
    return [job for job in jobs if job.finished_at is None and began_at(job) <= until]


def _known_act(name: str) -> Act:
    try:
        return Act(name)
    except ValueError:
        raise NotFound from None


def _filters(query: Query) -> dict[str, Any]:
    given = {
        "q": query.search,
        "state": query.state,
        "task": query.task,
        "worker": query.worker,
        "queue": query.queue,
        "failure": query.failure,
        "tag": query.tag,
    }
    return {name: value for name, value in given.items() if value}


def _filtered_list(query: Query, **more: Any) -> str:
    return url_for("service.dashboard.show", **_filters(query), **more)


def _in_words(query: Query) -> str:
    return ", ".join(f"{name} {value}" for name, value in _filters(query).items()) or "all"
