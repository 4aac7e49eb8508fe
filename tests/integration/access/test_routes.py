"""Every route for every role. It is made from the routes: a new one is in it by itself."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client
from redis import Redis
from werkzeug.routing import Rule

from service import create_app
from service.broker.dead_letters.model import DeadLetter
from service.results.record import encode_job
from tests.integration.access.test_starting import identify
from tests.support.dead import DEAD, dead_letter

TOKEN = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
SECRET = "what-the-job-returned"  # noqa: S105  not one
REASON = f"The message cannot be decoded: ValueError('no date: {SECRET}')"
LETTER = dead_letter("dead", "demo.my_add", [SECRET], REASON)
JOB, OTHER, UNKNOWN = "job-of-ada", "job-of-eve", "job-of-nobody"
# By role, the user as `X-Test-User` has it.
ROLES = {
    "anonymous": "",
    "stranger": "bob",
    "owner": "ada",
    "viewer": "vic viewer",
    "operator": "oda operator",
    "admin": "root admin",
}
OPERATORS = ["viewer", "operator", "admin"]
# Where the rule for all routes of a kind does not say who passes.
_PASS: dict[tuple[str, str], list[str]] = {
    ("GET", "/dashboard/sign-in"): [*ROLES],
    ("POST", "/dashboard/sign-in"): [*ROLES],  # whoever has the token
    ("POST", "/dashboard/sign-out"): [*ROLES],
    ("GET", "/dashboard/audit"): ["admin"],
}
# Values of a route's variables besides the job's id, and what is posted.
_VALUES = {
    "name": "demo.my_add",
    "letter_id": "none",
    "filename": "css/base.css",
    "act": "cancel",
}
_BODY: dict[str, Any] = {"json": {"a": 1, "b": 2}}
_FORM: dict[str, Any] = {"form": {"a": "1", "b": "2", "token": TOKEN}}
_HTTP = ("GET", "POST", "PUT", "PATCH", "DELETE")


def passes(method: str, rule: Rule) -> list[str]:
    """The roles that the route is for: the others get a 404 of a job, or are sent to sign in."""
    if named := _PASS.get((method, rule.rule)):
        return named
    if rule.rule.startswith("/dashboard/jobs"):
        return ["admin"]  # the job is ada's
    if "/many" in rule.rule:
        return OPERATORS[1:]
    if rule.rule.startswith("/dashboard"):
        return OPERATORS if method == "GET" else OPERATORS[1:]
    return ["owner", "admin"] if "job_id" in rule.arguments else [*ROLES]


def routes() -> list[tuple[str, Rule]]:
    """Each method of each rule of an app that has all there is."""
    app = create_app({"SERVICE_ADMIN_TOKEN": TOKEN})
    return [
        (method, rule)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) & {*_HTTP})
    ]


def store_jobs(redis: Redis, jobs: Mapping[str, tuple[str, str]]) -> None:
    """Jobs that have ended: by id, the owner and what was given to the job, and returned by it."""
    for job_id, (owner, value) in jobs.items():
        record = encode_job(
            job_id,
            "SUCCESS",
            value,
            traceback=None,
            children=(),
            request=type("Request", (), {"owner": owner, "task": "demo.my_add"}),
            extended={},
            arguments={"text": value},
            max_bytes=10**7,
        )
        redis.set(f"celery-task-meta-{job_id}", record, ex=60)


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    """An app with a job of ada's that has ended, one of eve's, and a dead letter of a third one."""
    with Redis.from_url(redis_url) as redis:
        store_jobs(redis, {JOB: ("ada", SECRET), OTHER: ("eve", SECRET)})
        redis.lpush(DEAD, LETTER)
    config = {"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN}
    config |= {"SERVICE_LIMITS": "off"}
    app = create_app(config, identify=identify)
    async with app.test_app():
        yield app


async def ask(client: Client, route: tuple[str, Rule], role: str, accept: str, job: str) -> Any:
    """The status and the body of a request in which every way to name a job names this one."""
    method, rule = route
    values = {**_VALUES, "job_id": job}
    path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], rule.rule)
    group = DeadLetter.decode(LETTER).group
    query = f"id={job}&view=page&job={job}&q={job}&t={job}&act=drop&group={group}"
    takes_json = rule.endpoint == "service.tasks.start"
    body = {} if method in {"GET", "DELETE"} else _BODY if takes_json else _FORM
    send = getattr(client, method.lower())
    headers = {"X-Test-User": ROLES[role], "Accept": accept}
    answer = await send(f"{path}?{query}", headers=headers, **body)
    return answer.status_code, await answer.get_data(as_text=True)


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize(
    ("method", "rule"), routes(), ids=lambda it: it if isinstance(it, str) else it.rule
)
async def test_each_role_passes_where_it_may_and_sees_its_own(
    app: Quart, method: str, rule: Rule, accept: str
) -> None:
    """Nobody makes a fault, nor is shown what is not theirs."""
    client = app.test_client(use_cookies=False)
    wanted = passes(method, rule)
    passed = []
    for role in ROLES:
        status, body = await ask(client, (method, rule), role, accept, JOB)
        assert status < 500, (role, body)
        unknown = await ask(client, (method, rule), role, accept, UNKNOWN)
        if role not in {"owner", "admin"}:
            assert SECRET not in body, role
            if rule.arguments & {"job_id"}:
                assert (status, body.replace(JOB, UNKNOWN)) == unknown
        is_of_dashboard = "dashboard" in rule.rule
        sends_away = is_of_dashboard and status == 303 and method == "GET"
        is_refused = status in {401, 403} or sends_away
        if "job_id" in rule.arguments:
            is_refused = status == 404 or (is_of_dashboard and is_refused)
        if not is_refused:
            passed.append(role)
        if role == "owner":
            _, body = await ask(client, (method, rule), role, accept, OTHER)
            assert SECRET not in body
    assert passed == wanted


async def test_the_table_has_jobs_to_see(app: Quart) -> None:
    """Or it would say of nothing that it is not shown."""
    client = app.test_client(use_cookies=False)
    shown: dict[str, set[str]] = {"owner": set(), "admin": set()}
    for method, rule in routes():
        for role in shown if method == "GET" else ():
            _, body = await ask(client, (method, rule), role, "text/html", JOB)
            shown[role] |= {rule.rule} if SECRET in body else set()
    of_jobs = {"/result/<job_id>", "/result/<job_id>/events", "/jobs", "/"}
    assert shown["owner"] >= of_jobs
    assert shown["admin"] >= of_jobs | {"/dashboard/dead-letters", "/dashboard/dead-letters/many"}
