"""A job is its owner's: for all others it is as one that never was."""

import json
from typing import Any, cast

import pytest
from redis import Redis

from service import (
    Action,
    Caller,
    Subject,
    TaskBlueprint,
    allow_by_default,
    enqueue,
    get_celery,
)
from service.broker.dead_letters.model import DeadLetter
from service.parts import parts_of
from service.redis.script import Script
from service.results.marks import OWNER, beginning_of, owner_of
from service.results.record import encode_job, encode_queued
from tests.integration.access.test_routes import store_jobs
from tests.integration.access.test_starting import identify, serving

UNKNOWN = "00000000-0000-0000-0000-000000000000"
STRANGERS = ["", "bob", "bob operator"]
STREAM = {"Accept": "text/event-stream"}
PAGE = {"Accept": "text/html"}
# Each way to ask for a job, with its id as the gap.
ADDRESSES: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/result/{}", {}),
    ("GET", "/result/{}", PAGE),
    ("GET", "/result/{}", STREAM),
    ("GET", "/result/{}?wait=30", {}),
    ("GET", "/result/{}/events", {}),
    ("DELETE", "/result/{}", {}),
    ("GET", "/jobs?id={}", {}),
    ("GET", "/jobs?id={}&view=page", {}),
    ("GET", "/?job={}", PAGE),
]
_STORE = Script.load("service.worker.results", "store")

tasks = TaskBlueprint("owned")


@tasks.task(public=True, show_arguments=True)
async def note(text: str) -> str:
    """Something to be kept from others."""
    return text


async def start(client: Any, user: str, **headers: str) -> str:
    """A job of this user's."""
    answer = await client.post(
        "/tasks/owned.note", json={"text": "secret"}, headers={"X-Test-User": user, **headers}
    )
    assert answer.status_code == 202, await answer.get_data()
    return str((await answer.get_json())["id"])


async def seen(client: Any, user: str, method: str, path: str, headers: dict[str, str]) -> Any:
    """All of an answer that could tell two jobs apart: not what names or counts the requests."""
    send = {"GET": client.get, "DELETE": client.delete}[method]
    answer = await send(path, headers={"X-Test-User": user, **headers})
    body = await answer.get_data(as_text=True)
    own = {"ratelimit", "x-request-id"}
    told = {name: text for name, text in answer.headers.items() if name.lower() not in own}
    return answer.status_code, told, body


async def test_a_policy_hides_arguments_on_each_page(redis_url: str) -> None:
    """From the owner, too, if it says so."""

    def allow(caller: Caller | None, action: Action, subject: Subject) -> bool:
        return action is not Action.SEE_ARGUMENTS and allow_by_default(caller, action, subject)

    async with serving(redis_url, identify=identify, allow=allow, tasks=[tasks]) as client:
        job_id = await start(client, "ada")
        for path in (f"/result/{job_id}", f"/?job={job_id}"):
            status, _, body = await seen(client, "ada", "GET", path, PAGE)
            assert status == 200
            assert job_id in body
            assert "secret" not in body


async def test_a_policy_hides_output_from_operators(redis_url: str) -> None:
    """Tracebacks may have what the job was given; the state is no secret."""
    hidden: set[Action] = set()

    def allow(caller: Caller | None, action: Action, subject: Subject) -> bool:
        return action not in hidden and allow_by_default(caller, action, subject)

    async with serving(redis_url, identify=identify, allow=allow, tasks=[tasks]) as client:
        job_id = await start(client, "ada")
        with Redis.from_url(redis_url) as redis:
            record = {
                "status": "RETRY",
                "owner": "ada",
                "traceback": "a secret",
                "result": None,
            }
            redis.set(f"celery-task-meta-{job_id}", json.dumps(record), ex=60)
        for is_shown in (True, False):
            hidden |= set() if is_shown else {Action.SEE_OUTPUT}
            status, _, body = await seen(client, "root admin", "GET", f"/result/{job_id}", PAGE)
            assert (status, "to be tried again" in body) == (200, True)
            assert ("a secret" in body) is is_shown


@pytest.mark.parametrize("user", STRANGERS)
async def test_for_a_stranger_a_job_is_as_one_that_never_was(redis_url: str, user: str) -> None:
    """The same status, the same headers, the same bytes, at each address."""
    async with serving(redis_url, identify=identify, tasks=[tasks]) as client:
        job_id = await start(client, "ada")
        for method, path, headers in ADDRESSES:
            foreign = await seen(client, user, method, path.format(job_id), headers)
            unknown = await seen(client, user, method, path.format(UNKNOWN), headers)
            assert json.loads(json.dumps(foreign).replace(job_id, UNKNOWN)) == [*unknown]
            assert "secret" not in foreign[2]
        for owner in ("ada", "root admin"):
            status, _, body = await seen(client, owner, "GET", f"/result/{job_id}", PAGE)
            assert (status, "secret" in body) == (200, True)
            _, _, body = await seen(client, owner, "GET", f"/jobs?id={job_id}", {})
            assert [job["id"] for job in json.loads(body)["jobs"]] == [job_id]
        assert (await seen(client, "ada", "DELETE", f"/result/{job_id}", {}))[0] == 200


async def test_strangers_are_answered_by_the_beginning_of_a_record(redis_url: str) -> None:
    """Or the time that a 404 takes would tell that there is such a job."""
    text = "x" * 500_000
    with Redis.from_url(redis_url) as redis:
        store_jobs(redis, {"long": ("ada", text)})

        def sent() -> int:
            return int(cast("dict[str, Any]", redis.info("stats"))["total_net_output_bytes"])

        async with serving(redis_url, identify=identify, tasks=[tasks]) as client:
            for method, path, headers in ADDRESSES:
                before = sent()
                _, _, body = await seen(client, "bob", method, path.format("long"), headers)
                assert text not in body
                assert sent() - before < 100_000, path
            before, told = sent(), ""
            headers = {"X-Test-User": "bob", **STREAM}
            async with client.request("/jobs?id=long", headers=headers) as stream:
                await stream.send_complete()
                while "expired" not in told:
                    told += (await stream.receive()).decode()
                await stream.disconnect()
            assert sent() - before < 100_000
            _, _, body = await seen(client, "ada", "GET", "/result/long", {})
            assert text in body


async def test_a_policy_is_asked_about_ids_that_never_were(redis_url: str) -> None:
    """Or the time that it takes would tell which there are; what it says of them opens nothing."""
    asked: list[Subject] = []

    def allow(caller: Caller | None, action: Action, subject: Subject) -> bool:
        asked.append(subject)
        return True

    async with serving(redis_url, identify=identify, allow=allow, tasks=[tasks]) as client:
        for method, path, headers in ADDRESSES:
            asked.clear()
            address = path.format(UNKNOWN)
            status, _, _ = await seen(client, "bob", method, address, headers)
            assert status in {200, 404}
            assert Subject(task=None, job_id=UNKNOWN, owner="") in asked, path


async def test_a_stream_of_several_jobs_has_the_callers_own(redis_url: str) -> None:
    """Neither their cards, nor that they change."""
    async with serving(redis_url, identify=identify, tasks=[tasks]) as client:
        hers, his = await start(client, "ada"), await start(client, "bob")
        headers = {"X-Test-User": "bob", **STREAM}
        async with client.request(f"/jobs?id={hers}&id={his}", headers=headers) as stream:
            await stream.send_complete()
            text = ""
            while his not in text:
                text += (await stream.receive()).decode()
            assert f'"expired": [{{"id": "{hers}"' in text
            for owner, job_id in (("ada", hers), ("bob", his)):
                await seen(client, owner, "DELETE", f"/result/{job_id}", {})
            text = ""
            while "REVOKED" not in text:
                text += (await stream.receive()).decode()
            assert hers not in text
            await stream.disconnect()


async def test_a_job_without_an_owner_is_his_who_has_its_id(redis_url: str) -> None:
    """As it is where nobody says who callers are; a setting turns that off."""
    async with serving(redis_url, identify=identify, tasks=[tasks]) as client:
        job_id = await start(client, "")
        assert (await seen(client, "bob", "GET", f"/result/{job_id}", {}))[0] == 200
    closed = {"SERVICE_REDIS_URL": redis_url, "SERVICE_RESULT_ACCESS": "owner"}
    async with serving(redis_url, identify=identify, tasks=[tasks], config=closed) as client:
        for user, status in (("", 404), ("bob", 404), ("root admin", 200)):
            assert (await seen(client, user, "GET", f"/result/{job_id}", {}))[0] == status


async def test_each_caller_has_idempotency_keys_of_their_own(redis_url: str) -> None:
    """A key that another has used tells nothing of the other, and gives none of their jobs."""
    async with serving(redis_url, identify=identify, tasks=[tasks]) as client:
        ids = [
            await start(client, user, **{"Idempotency-Key": "one"})
            for user in ("ada", "ada", "bob", "", "", "bob")
        ]
    assert ids[0] == ids[1]
    assert ids[2] == ids[5]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 3


async def test_a_policy_may_let_others_see_but_not_cancel(redis_url: str) -> None:
    """They are told so: the job is no secret to them."""

    def allow(caller: Caller | None, action: Any, subject: Any) -> bool:
        if action in {"start", "operate", "watch"}:
            return bool(action == "start")
        assert subject.task == "owned.note"
        is_owner = caller is not None and caller.id == subject.owner
        return is_owner or bool(action == "see")

    async with serving(redis_url, identify=identify, allow=allow, tasks=[tasks]) as client:
        job_id = await start(client, "ada")
        status, _, body = await seen(client, "bob", "GET", f"/result/{job_id}", PAGE)
        assert (status, "secret" in body) == (200, False)
        status, _, body = await seen(client, "bob", "DELETE", f"/result/{job_id}", {})
        assert (status, "cancel" in body) == (403, True)
        assert "secret" in (await seen(client, "ada", "GET", f"/result/{job_id}", PAGE))[2]


@pytest.mark.parametrize("owner", ["ada", 'O"Neill\\, \u00e9\U0001f600\n"result": "x'])
async def test_code_says_whose_a_job_is(redis_url: str, owner: str) -> None:
    """In the record and in the message, with a template or by Celery's own code; a canvas too."""
    async with serving(redis_url, tasks=[tasks]) as client:
        app = client.app
        async with app.app_context():
            store = parts_of(app).store
            plain = await note.options(owner=owner).enqueue("a")
            slow = await note.options(owner=owner, headers={"x": 1}).enqueue("a")
            chain: Any = await enqueue(note.s("a") | note.si("b"), owner=owner)
            none = await note.enqueue("a")
            assert [(await store.read(job.id)).owner for job in (plain, slow, chain, none)] == [
                *(owner, owner, owner, None)
            ]
            assert (await store.get(plain.id)).owner == owner
            with Redis.from_url(redis_url) as redis:
                messages = [json.loads(each) for each in redis.lrange("celery", 0, -1)]
            headers = [message["headers"].get(OWNER) for message in reversed(messages)]
            assert headers == [owner, owner, owner, None]
        get_celery(app).close()
        with pytest.raises(ValueError, match="1 to 255"):
            note.options(owner="")


def record_of(state: str, owner: str | None, task: str | None = None) -> str:
    """What a worker stores that knows of this owner and task, or of none."""
    request = type("Request", (), {OWNER: owner, "task": task})()
    return encode_job(
        "one",
        state,
        None,
        traceback=None,
        children=(),
        request=request,
        extended={},
        arguments=None,
        max_bytes=100_000,
    )


@pytest.mark.parametrize("owner", ["ada", 'O"Neill\\, \u00e9\n"result": "x', "\U0001f600" * 255])
def test_no_state_that_is_stored_takes_the_owner_away(redis_url: str, owner: str) -> None:
    """Celery stores some without a request, as for a task that the worker does not know."""
    with Redis.from_url(redis_url) as redis:
        marks = {"once": "service-once-x", "cancelled_by": None}
        redis.set(
            "celery-task-meta-one",
            encode_queued("one", "t", "now", owner=owner, marks=marks),
            ex=60,
        )
        for state, told, task in (
            ("STARTED", None, None),
            ("PROGRESS", owner, 'a\\"b'),
            ("FAILURE", "bob", "replaced"),
        ):
            assert _STORE.run_blocking(
                redis, ["celery-task-meta-one"], [record_of(state, told, task), 60]
            ) == [1]
            stored = redis.get("celery-task-meta-one")
            assert isinstance(stored, bytes)
            assert beginning_of(stored[: stored.index(b'"result"')]) == (owner, task)
            fields = json.loads(stored)
            assert (fields["owner"], fields["name"]) == (owner, task)
            assert (fields["status"], fields["once"]) == (state, "service-once-x")


def test_a_record_of_before_keeps_its_owner(redis_url: str) -> None:
    """There the task's name stood behind the result."""
    before = {"status": "QUEUED", "owner": "ada", "once": "x", "result": None, "name": "t"}
    with Redis.from_url(redis_url) as redis:
        redis.set("celery-task-meta-one", json.dumps(before), ex=60)
        _STORE.run_blocking(redis, ["celery-task-meta-one"], [record_of("STARTED", None, "t"), 60])
        stored = cast("bytes", redis.get("celery-task-meta-one"))
    assert stored.startswith(
        b'{"status": "STARTED", "owner": "ada", "once": "x", "name": "t", "result": null, '
    )


def test_the_owner_is_read_where_older_workers_stored_it() -> None:
    """A rolling upgrade opens no job; what a task returned is no owner."""
    old = {"status": "STARTED", "result": {"owner": "x"}, "owner": "ada"}
    assert owner_of(json.dumps(old).encode()) == "ada"
    assert owner_of(json.dumps({**old, "owner": None}).encode()) is None
    assert owner_of(b'{"status": "SUCCESS", "result": {"owner": "x"}}') is None
    assert owner_of(b'["owner": ') is None


def test_a_dead_letter_knows_whose_job_it_was() -> None:
    """Replayed, the job is theirs again."""
    message = json.dumps({"headers": {"id": "one", OWNER: "ada"}, "properties": {}, "body": ""})
    letter = {"message": message, "queue": "q", "reason": "r", "deliveries": 1, "at": 0}
    assert DeadLetter.decode(json.dumps(letter)).owner == "ada"
