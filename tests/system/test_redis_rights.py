"""Web and worker do all that they do with the rights that service/docs/security.md gives them."""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chord, group
from click.testing import CliRunner, Result
from quart import Quart
from quart.cli import ScriptInfo
from quart.typing import TestClientProtocol as Client

from service import create_app, enqueue, get_celery
from service.cli.main import service
from service.errors import InvalidArgumentsError
from tests.support.process import ROOT, Process
from tests.support.sample_tasks import (
    add,
    canvas,
    progress_async,
    retry_once,
    total,
    wait_in_celerys_way,
    write_log,
)
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async
from tests.support.workers import worker_process

ADMIN_TOKEN = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
LETTERS = "/dashboard/dead-letters"


def rights() -> dict[str, list[str]]:
    """The rules of each user as the guide gives them to ACL SETUSER."""
    guide = (ROOT / "service/docs/security.md").read_text()
    commands = re.findall(r"^valkey-cli (ACL SETUSER .*)", guide.replace("\\\n", ""), re.MULTILINE)
    users = {words[2]: words[3:] for words in map(shlex.split, commands)}
    assert users.pop("default") == ["off"]
    assert list(users) == ["web", "worker"]
    return users


def address_of(user: str, valkey: Valkey) -> str:
    """The server's address for the user, with the password that the guide gives it."""
    (password,) = [rule[1:] for rule in rights()[user] if rule.startswith(">")]
    return valkey.url.replace("//", f"//{user}:{password}@")


def settings(user: str, valkey: Valkey) -> dict[str, str]:
    """Of a process that is this user: leases end soon, for one of the workers is killed."""
    return {
        "SERVICE_REDIS_URL": address_of(user, valkey),
        "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
        "SERVICE_LEASE": "2",
        "SERVICE_RECENT_JOBS": "20",
    }


@asynccontextmanager
async def serving(valkey: Valkey) -> AsyncIterator[Quart]:
    """The web side."""
    limits = "starts=100/1m,open-jobs=10"
    config = settings("web", valkey) | {
        "SERVICE_ADMIN_TOKEN": ADMIN_TOKEN,
        "SERVICE_LIMITS": limits,
        "SERVICE_MAX_QUEUE_BYTES": "1000000",
        "SERVICE_METRICS": "on",
    }
    app = create_app(config)
    async with app.test_app(), app.app_context():
        yield app


def worker(pool: str, valkey: Valkey, folder: Path) -> Process:
    """A worker, not yet started."""
    return worker_process(pool, address_of("worker", valkey), folder, **settings("worker", valkey))


async def started(client: Client, task: str, **arguments: Any) -> str:
    """The address of a job that was started over HTTP, twice by one idempotency key."""
    key = {"Idempotency-Key": str(uuid4())}
    answers = [await client.post(f"/tasks/{task}", json=arguments, headers=key) for _ in range(2)]
    first, again = [await answer.get_json() for answer in answers]
    assert first["id"] == again["id"]
    return str(first["result_url"])


async def end_of(client: Client, address: str) -> Any:
    """The job at this address, once it has ended, as its stream of events tells."""
    answer = await client.get(f"{address}/events")
    return json.loads((await answer.get_data(as_text=True)).rpartition("data: ")[2])


async def wait_for_state(client: Client, address: str, state: str) -> None:
    """Wait until the job is in this state."""

    async def is_so() -> bool:
        return bool((await (await client.get(address)).get_json()).get("state") == state)

    await wait_until_async(is_so, description=f"{address} is {state}", timeout=20)


async def run_jobs(app: Quart, folder: Path) -> None:
    """Jobs with each kind of end."""
    client = app.test_client()
    counting = await progress_async.enqueue(3)
    await wait_for_state(client, f"/result/{counting.id}", "PROGRESS")
    (folder / counting.id).touch()
    assert (await end_of(client, f"/result/{counting.id}"))["state"] == "SUCCESS"
    added = await end_of(client, await started(client, "demo.my_add", a=1, b=2))
    assert added["result"] == 3
    assert (await end_of(client, await started(client, "demo.fail")))["state"] == "FAILURE"
    logged = await write_log.enqueue("ada")
    await logged.result(timeout=45)

    async def is_kept() -> bool:
        log = await client.get(f"/dashboard/jobs/{logged.id}/log", headers=ADMIN)
        return b"hello ada" in await log.get_data()

    await wait_until_async(is_kept, description="what a job logged is shown")
    await (await retry_once.enqueue("retried", 0.1)).result(timeout=45)
    assert await (await add.options(countdown=0.5).enqueue(1, 2)).result(timeout=45) == 3
    few: Any = chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert await (await enqueue(few)).result(timeout=45) == 6
    body = await (await canvas.enqueue("chord")).result(timeout=45)
    await wait_for_state(client, f"/result/{body}", "SUCCESS")
    waited = await wait_in_celerys_way.enqueue("group")
    assert (await waited.result(timeout=45))[0] == 3


async def send_long_canvases() -> None:
    """Those that take more than one step of Redis are put into a journal first."""
    many: Any = chord([add.s(1, number) for number in range(150)], total.s())
    assert await (await enqueue(many)).result(timeout=45) == 150 + sum(range(150))
    unusable: Any = group([*many.tasks, *many.tasks, add.s(1, object())])
    with pytest.raises(InvalidArgumentsError):
        await enqueue(unusable)


async def cancel_jobs(app: Quart) -> None:
    """One that is scheduled, and one that runs."""
    client = app.test_client()
    scheduled = await add.options(countdown=600).enqueue(1, 2)
    page = await client.get(f"/result/{scheduled.id}", headers=ADMIN | {"Accept": "text/html"})
    assert "Run now" in await page.get_data(as_text=True)
    cancelled = await client.delete(f"/result/{scheduled.id}")
    assert (await cancelled.get_json())["state"] == "REVOKED"
    running = await started(client, "demo.count_slowly", steps=500, pause=0.1)
    await wait_for_state(client, running, "PROGRESS")
    stack = f"/dashboard/jobs/{running.rpartition('/')[2]}/stack"

    async def is_answered() -> bool:
        page = await client.get(stack, headers=ADMIN | {"Accept": "text/html"})
        text = await page.get_data(as_text=True)
        return "count_slowly" in text or "py-spy" in text

    await wait_until_async(is_answered, description="the worker says where the job is")
    assert (await client.delete(running)).status_code == 202
    assert (await end_of(client, running))["state"] == "REVOKED"


async def operate(app: Quart) -> None:
    """Replay and drop a dead letter, look at all pages, be refused, sign in and out."""
    client = app.test_client()
    lost = await asyncio.to_thread(get_celery(app).send_task, "no.such")

    async def is_dead() -> bool:
        page = await client.get(LETTERS, headers=ADMIN)
        return lost.id in await page.get_data(as_text=True)

    await wait_until_async(is_dead, description="the job of no task is a dead letter")
    replayed = await client.post(f"{LETTERS}/{lost.id}/replay", headers=ADMIN)
    assert replayed.status_code == 303
    await wait_until_async(is_dead, description="it is dead again")
    assert (await client.post(f"{LETTERS}/{lost.id}/drop", headers=ADMIN)).status_code == 303
    for page in ("/", "/jobs", "/metrics", "/dashboard", "/dashboard/audit"):
        shown = await client.get(page, headers=ADMIN | {"Accept": "text/html"})
        assert shown.status_code == 200, page
    for token, status in (("wrong", 403), (ADMIN_TOKEN, 303)):
        signed = await client.post("/dashboard/sign-in", form={"token": token})
        assert signed.status_code == status
    assert (await client.post("/dashboard/sign-out")).status_code == 303


async def pause_a_task(app: Quart) -> None:
    """As an operator does, who looks at the job that waits meanwhile; then resume it."""
    client, page = app.test_client(), "/dashboard/tasks?task=demo.my_add"
    assert (await client.post(page, form={"act": "pause"}, headers=ADMIN)).status_code == 303
    job = await started(client, "demo.my_add", a=3, b=4)

    async def waits() -> bool:
        shown = await client.get(page, headers=ADMIN | {"Accept": "text/html"})
        return "<dd>1 <small>" in await shown.get_data(as_text=True)

    await wait_until_async(waits, description="the job waits")
    await started(client, "demo.my_add", a=5, b=6)
    shown = await client.get(job, headers=ADMIN | {"Accept": "text/html"})
    assert "Its task is paused" in await shown.get_data(as_text=True)
    assert (await client.post(page, form={"act": "resume"}, headers=ADMIN)).status_code == 303
    assert (await end_of(client, job))["result"] == 7


async def use_tokens(app: Quart, valkey: Valkey) -> None:
    """Make one as the command line does, use it and take it back."""

    def tokens(*arguments: str) -> Result:
        info = ScriptInfo(create_app=lambda: create_app(settings("web", valkey)))
        return CliRunner().invoke(service, ["tokens", *arguments], obj=info)

    made = await asyncio.to_thread(tokens, "create", "ci", "--scope", "start:*")
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    client = app.test_client()
    answer = await client.post("/tasks/demo.my_add", json={"a": 1, "b": 2}, headers=headers)
    assert answer.status_code == 202
    assert "ci" in (await asyncio.to_thread(tokens, "list")).stdout
    assert (await asyncio.to_thread(tokens, "revoke", "ci")).exit_code == 0


async def inspect(valkey: Valkey) -> None:
    """Ask the worker as an operator does, who may do everything."""
    celery = Celery("operator", broker=valkey.url, set_as_current=False)
    ping: Any = partial(celery.control.ping, timeout=2, limit=1)
    await wait_until_async(lambda: asyncio.to_thread(ping), description="the worker says pong")


async def exceed_a_limit(app: Quart) -> None:
    """Start jobs until no more may be."""
    client = app.test_client()

    async def is_refused() -> bool:
        answer = await client.post("/tasks/demo.my_add", json={"a": 1, "b": 2})
        return answer.status_code == 429

    await wait_until_async(is_refused, description="a start is beyond the limit")


async def test_web_and_worker_need_no_more_rights_than_the_guide_gives(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """Redis notes in its ACL LOG whatever it refuses."""
    with own_valkey.client() as redis:
        for user, rules in rights().items():
            redis.execute_command("ACL", "SETUSER", user, *rules)
        async with serving(own_valkey) as app:
            early = await add.enqueue(1, 2)
            cancelled = await app.test_client().delete(f"/result/{early.id}")
            assert (await cancelled.get_json())["state"] == "REVOKED"
            client = app.test_client()
            with worker("asyncio", own_valkey, tmp_path) as first:
                first.wait_for_output(r"ready\.")
                await run_jobs(app, tmp_path)
                await send_long_canvases()
                await cancel_jobs(app)
                await operate(app)
                await pause_a_task(app)
                await use_tokens(app, own_valkey)
                held = await progress_async.enqueue(3)
                inherited = f"/result/{held.id}"
                await wait_for_state(client, inherited, "PROGRESS")
                first.kill()
            (tmp_path / held.id).touch()
            with worker("prefork", own_valkey, tmp_path) as second:
                second.wait_for_output(r"ready\.")
                assert (await end_of(client, inherited))["state"] == "SUCCESS"
                await run_jobs(app, tmp_path)
                await cancel_jobs(app)
                await inspect(own_valkey)
                await exceed_a_limit(app)
                assert second.stop() == 0
        called: Any = redis.info("commandstats")
        granted = {rule[1:] for rules in rights().values() for rule in rules if rule[0] == "+"}
        assert granted - {name.removeprefix("cmdstat_") for name in called} == {"auth"}
        refused: Any = redis.acl_log()
        assert [(e["username"], e["reason"], e["object"]) for e in refused] == []
