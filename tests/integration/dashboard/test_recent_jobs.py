"""The list of recent jobs at its default size, filled as jobs fill it and asked over HTTP."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from jinja2 import Template
from quart import Quart, template_rendered

from service import create_app
from service.dashboard.events.recent import Query
from service.dashboard.events.recorder import Recorder
from service.dashboard.extension import dashboard_of
from service.settings import read_settings
from service.signals import JobEvent
from tests.support.valkey import Valkey

TOKEN: Final = "a-token-of-this-test"  # noqa: S105  of an app that lives for a test
KEEP: Final = 10_000
SENT: Final = 12_000
BEGAN: Final = 1_700_000_000.0  # seconds since 1970
TASKS: Final = ("mail.send", "mail.sort", "report.make", "report.print")
STATES: Final = ("SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "QUEUED")


def job_id(number: int) -> str:
    return f"job-{number:05}"


@pytest.fixture(name="app")
async def _app(redis_url: str) -> AsyncIterator[Quart]:
    """An app with 12,000 jobs recorded, a second apart, as workers and enqueuers record them."""
    settings = {"SERVICE_REDIS_URL": redis_url, "SERVICE_RESULT_EXPIRES": 600}
    recorder = Recorder(read_settings(settings))
    recorder.take_over()
    for start in range(0, SENT, 4_000):
        for number in range(start, start + 4_000):
            queued, state = BEGAN + number, STATES[number % len(STATES)]
            task = TASKS[number % 4]
            event = JobEvent(job_id(number), state, task, queued, queued_at=queued)
            if state != "QUEUED":
                ended = queued + 20
                started = ended - number % 10 - 1  # the run times are 1 to 10 seconds
                worker = f"celery@host-{number % 3}"
                event = JobEvent(job_id(number), state, task, ended, worker, queued, started, ended)
            recorder.record(event)
        assert recorder.report()
    await recorder.aclose()
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN})
    async with app.test_app():
        yield app


async def ask(app: Quart, **query: str) -> tuple[list[str], str]:
    """The ids that the dashboard shows, and what it says of how many there are."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    answer = await app.test_client().get("/dashboard/news", query_string=query, headers=headers)
    assert answer.status_code == 200
    fragments = (await answer.get_json())["fragments"]
    pager = " ".join(re.sub("<[^>]*>", " ", fragments["pager"]).split())
    return re.findall(r'data-id="(job-\d+)"', fragments["jobs"]), pager


async def test_ten_thousand_jobs_are_filtered_searched_sorted_and_paged(app: Quart) -> None:
    """The newest are kept; each answer is checked against the rule that made the jobs."""
    kept = range(SENT - 1, SENT - KEEP - 1, -1)  # the newest first
    ids, pager = await ask(app)
    assert ids == [job_id(n) for n in kept[:50]]
    assert pager == "The 10,000 most recent jobs page 1 of 200 Older"
    ids, pager = await ask(app, page="200")
    assert ids == [job_id(n) for n in kept[-50:]]
    assert pager.endswith("Newer page 200 of 200")
    ids, pager = await ask(app, state="FAILURE")
    assert ids == [job_id(n) for n in kept if n % 5 == 3][:50]
    assert pager.startswith("2,000 of the 10,000 most recent jobs")
    ids, pager = await ask(app, q="MAIL host-2", page="2")
    fit = [n for n in kept if n % 4 < 2 and n % 3 == 2 and n % 5 != 4]
    assert ids == [job_id(n) for n in fit[50:100]]
    assert pager.startswith(f"{len(fit):,} of the")
    assert (await ask(app, q=job_id(kept[7_777])))[0] == [job_id(kept[7_777])]
    assert (await ask(app, q=job_id(SENT - KEEP - 1)))[0] == []
    ids, _ = await ask(app, sort="run", order="desc")
    assert ids == [job_id(n) for n in kept if n % 10 == 8 and n % 5 != 4][:50]
    ids, _ = await ask(app, sort="task", order="asc")
    assert ids == [job_id(n) for n in kept if n % 4 == 0][:50]
    ids, _ = await ask(app, sort="started", order="asc", page="200")
    assert ids == [job_id(n) for n in kept if n % 5 == 4][-50:], "what has none comes last"
    ids, _ = await ask(app, sort="id", order="asc")
    assert ids == [job_id(n) for n in reversed(kept)][:50]


async def test_many_who_look_cost_redis_one_reading_a_second(app: Quart, valkey: Valkey) -> None:
    """With all kinds of questions, too."""
    await ask(app, q="the arguments of each job are read once, as somebody searches")
    with valkey.client() as redis:
        before = redis.info("stats")["total_commands_processed"]
        loop = asyncio.get_running_loop()
        began = loop.time()
        columns = ("task", "state", "worker", "queued", "started", "run", "id")
        await asyncio.gather(*(ask(app, sort=columns[n % 7], q=str(n % 5)) for n in range(100)))
        readings = 2 + loop.time() - began
        commands = redis.info("stats")["total_commands_processed"] - before
    # A reading is some hundred commands at first, one for each bucket of the hour, then a dozen.
    assert commands < 30 * readings


async def test_many_who_look_have_one_rendering(app: Quart) -> None:
    """They come at the same moment, as each reading lasts a second: each would render all of it."""
    rendered: Counter[str] = Counter()

    def note(sender: Quart, *, template: Template, **_: Any) -> None:
        rendered[str(template.name).rpartition("/")[2]] += 1

    template_rendered.connect(note, app)
    own, query = dashboard_of(app), Query()
    async with app.test_request_context("/dashboard"):
        contents = await asyncio.gather(*(own.content(query) for _ in range(20)))
    assert len(set(map(id, contents))) <= rendered["jobs.html"] <= 2  # if a second was over
    assert rendered["workers.html"] <= 2
