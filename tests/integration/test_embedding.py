"""`Jobs` in an app of somebody else's: nothing of ours reaches beyond our own blueprints."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from quart import Quart
from quart.logging import default_handler
from quart.typing import TestClientProtocol as Client

from service import Jobs, TaskBlueprint, create_app, enqueue, get_celery
from service.errors import (
    ConfigurationError,
    DuplicateTaskError,
    NoJobsError,
    UnknownJobError,
)
from service.parts import parts_of
from tests.support.host_app import UPLOAD, make_host, sell, shop

pytestmark = pytest.mark.quick  # Quart is not the same on every Python

BROWSER = {"Accept": "text/html"}
TOKEN = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test


@pytest.fixture
async def host(redis_url: str) -> AsyncIterator[Quart]:
    jobs = Jobs(tasks=[shop])
    app = make_host(jobs, SERVICE_REDIS_URL=redis_url, SERVICE_ADMIN_TOKEN=TOKEN)
    async with app.test_app():
        yield app


@pytest.fixture
def client(host: Quart) -> Client:
    return host.test_client(use_cookies=False)


async def text_of(client: Client, path: str, **options: Any) -> str:
    return str(await (await client.get(path, **options)).get_data(as_text=True))


async def _seen(client: Client, method: str, path: str, **options: Any) -> Any:
    answer = await getattr(client, method)(path, **options)
    headers = {n: v for n, v in answer.headers.items() if n not in {"date", "etag"}}
    return answer.status_code, headers, await answer.get_data()


async def test_the_host_is_as_it_was(client: Client) -> None:
    """Its pages, templates, names, files, uploads, errors and headers are those without jobs."""
    foreign = {"Sec-Fetch-Site": "cross-site", **BROWSER}
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("get", "/", {}),
        ("get", "/shop", {"headers": BROWSER}),
        ("get", "/static/own.txt", {}),
        ("post", "/upload", {"data": b"x" * UPLOAD, "headers": foreign}),
        ("get", "/broken", {"headers": BROWSER}),
        ("get", "/gone", {"headers": BROWSER}),
        ("get", "/nothing", {"headers": BROWSER}),
        ("get", "/jobs/nothing", {"headers": BROWSER}),
        ("post", "/", {}),
        *(("get", f"/host/{name}/", {}) for name in ("pages", "tasks", "results", "dashboard")),
    ]
    without = make_host().test_client(use_cookies=False)
    for method, path, options in requests:
        with_jobs = await _seen(client, method, path, **options)
        assert with_jobs == await _seen(without, method, path, **options), path
    page = await text_of(client, "/shop")
    assert "<title>The host's base</title>" in page
    assert "host's the index, host's site" in page.replace("&#39;", "'")
    assert await text_of(client, "/static/own.txt") == "own\n"


async def test_its_web_sockets_work(client: Client) -> None:
    """There are none of ours."""
    async with client.websocket("/echo") as socket:
        await socket.send("hello")
        assert await socket.receive() == "hello"


@pytest.mark.parametrize("is_mounted", [False, True], ids=["in it", "mounted"])
async def test_lines_of_its_loggers_are_as_they_were(redis_url: str, is_mounted: bool) -> None:
    """A line break in one of ours still begins no line."""
    jobs = Jobs(config={"SERVICE_REDIS_URL": redis_url})
    app = Quart("host")
    if not is_mounted:
        jobs.init_app(app)
    async with jobs.lifespan() if is_mounted else app.test_app():
        assert logging.lastResort is not None
        theirs = logging.makeLogRecord({"name": "shop", "msg": "a\nb", "levelname": "ERROR"})
        assert logging.lastResort.format(theirs) == "a\nb"
        assert default_handler.format(theirs).endswith("] ERROR in : a\nb")
        ours = logging.makeLogRecord({"name": "service.web", "msg": "a\nb", "levelname": "ERROR"})
        assert logging.lastResort.format(ours).endswith(" [ERROR] a\\nb")


async def test_no_name_is_taken(host: Quart) -> None:
    """All of ours begin with one that is our own; the demonstration's tasks are not there."""
    bare = make_host()
    assert {name.partition(".")[0] for name in host.blueprints.keys() - bare.blueprints.keys()} == {
        "service"
    }
    assert all(
        name.startswith("service.") for name in host.view_functions.keys() - bare.view_functions
    )
    assert host.jinja_env.filters.keys() == bare.jinja_env.filters.keys()
    assert host.jinja_env.globals.keys() == bare.jinja_env.globals.keys()
    assert set(host.jinja_env.list_templates()) == {"base.html", "index.html", "layout.html"}
    assert list(parts_of(host).tasks) == ["shop.sell"]
    ours = {str(rule) for rule in host.url_map.iter_rules()} - {
        str(rule) for rule in bare.url_map.iter_rules()
    }
    assert all(path.startswith("/jobs/") for path in ours - {"/jobs/"})


async def test_ours_work_under_the_prefix(client: Client) -> None:
    """With links that lead there, and headers, problems and limits of our own."""
    started = await client.post("/jobs/tasks/shop.sell", json={"item": "tea"})
    assert started.status_code == 202
    body = await started.get_json()
    assert body["result_url"] == f"/jobs/result/{body['id']}"
    assert (await (await client.get(body["result_url"])).get_json())["task"] == "shop.sell"
    page = await client.get(body["result_url"], headers=BROWSER)
    html = await page.get_data(as_text=True)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert 'href="/jobs/static/css/base.css"' in html
    assert 'href="/jobs/"' in html
    front = await text_of(client, "/jobs/", headers=BROWSER)
    assert 'action="/jobs/start/shop.sell"' in front
    assert "This page has just started" not in front
    assert (await client.get("/jobs/static/js/front.js")).status_code == 200
    assert (await client.get("/jobs/static/dashboard/dashboard.js")).status_code == 200
    document = await (await client.get("/jobs/openapi.json")).get_json()
    assert "/jobs/tasks/shop.sell" in document["paths"]


@pytest.mark.parametrize("path", ["/jobs/result/none", "/jobs/tasks/none"])
async def test_our_errors_are_ours(client: Client, path: str) -> None:
    """Though the app has handlers of its own for the status."""
    method = "get" if "result" in path else "post"
    status, headers, body = await _seen(client, method, path)
    assert status == 404
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["title"] == "Not Found"


async def test_our_limits_are_ours(client: Client) -> None:
    """Other sites can start nothing, and bodies are as long as SERVICE_MAX_BODY says."""
    foreign = {"Sec-Fetch-Site": "cross-site"}
    path = "/jobs/tasks/shop.sell"
    assert (await client.post(path, json={"item": "x"}, headers=foreign)).status_code == 403
    assert (await client.post(path, json={"item": "x" * 300_000})).status_code == 413


async def test_the_dashboard_is_there_for_operators(client: Client) -> None:
    """Its cookie is for the addresses of jobs alone."""
    form = {"token": TOKEN}
    answer = await client.post("/jobs/dashboard/sign-in", form=form)
    assert answer.location == "/jobs/dashboard"
    assert "Path=/jobs/;" in f"{answer.headers['Set-Cookie']};"
    bearer = {"Authorization": f"Bearer {TOKEN}", **BROWSER}
    page = await text_of(client, "/jobs/dashboard", headers=bearer)
    assert 'src="/jobs/static/dashboard/dashboard.js"' in page
    assert (await client.get("/jobs/dashboard/dead-letters", headers=bearer)).status_code == 200


@pytest.mark.parametrize(
    ("options", "there", "gone"),
    [
        ({"api": False}, ["/jobs/result/x"], ["/jobs/tasks", "/jobs/docs", "/jobs/"]),
        ({"pages": False}, ["/jobs/result/x", "/jobs/tasks"], ["/jobs/jobs", "/jobs/"]),
        ({"front_page": False}, ["/jobs/tasks", "/jobs/jobs"], ["/jobs/", "/jobs/start/shop.sell"]),
        ({"docs": False}, ["/jobs/tasks"], ["/jobs/docs", "/jobs/openapi.json"]),
        ({"dashboard": False}, ["/jobs/tasks"], ["/jobs/dashboard", "/jobs/dashboard/sign-in"]),
        ({"health": False}, ["/jobs/tasks"], ["/jobs/healthz", "/jobs/readyz"]),
        ({"health": "/ops"}, ["/ops/healthz", "/ops/readyz"], ["/jobs/healthz"]),
        ({"dashboard": "/ops"}, ["/ops/sign-in"], ["/jobs/dashboard"]),
        ({"api": "/v1", "docs": "/about"}, ["/v1/tasks", "/about/docs"], ["/jobs/tasks"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
async def test_each_part_can_be_left_out_or_moved(
    redis_url: str, options: dict[str, Any], there: list[str], gone: list[str]
) -> None:
    """And every page that is left is whole: no link leads to what is not there."""
    app = make_host(
        Jobs(tasks=[shop], **options), SERVICE_REDIS_URL=redis_url, SERVICE_ADMIN_TOKEN=TOKEN
    )
    rules = {str(rule) for rule in app.url_map.iter_rules()}
    async with app.test_app():
        client = app.test_client()
        async with app.app_context():
            job = await sell.enqueue("tea")
        for path in there:
            found = path.replace("/result/x", f"/result/{job.id}")
            assert (await client.get(found, headers=BROWSER)).status_code == 200, path
        for path in gone:
            assert await text_of(client, path) == "the host's 404", path
        bearer = {"Authorization": f"Bearer {TOKEN}", **BROWSER}
        for path in {"/jobs/dashboard", "/ops", "/jobs/dashboard/dead-letters"} & rules:
            assert (await client.get(path, headers=bearer)).status_code == 200


async def test_pages_extend_a_template_of_the_host(redis_url: str) -> None:
    """Its head and its foot are around ours, with our mark; its policy is its own affair."""
    app = Quart("host", template_folder="tests/support/host_templates", root_path=".")
    app.config["SERVICE_REDIS_URL"] = redis_url
    Jobs(app, tasks=[shop], base_template="layout.html", title="Work", brand="/logo.svg")
    async with app.test_app():
        client = app.test_client()
        answer = await client.get("/jobs/", headers=BROWSER)
        html = await answer.get_data(as_text=True)
    assert "the host's own head" in html
    assert "<title>Work</title>" in html
    assert "/jobs/static/css/in_host/forms.css" in html
    order = ("the host's header", 'src="/logo.svg"', ">Work</a>", "shop.sell", "its foot")
    places = [html.find(each) for each in order]
    assert places == sorted(places)
    assert places[0] > 0
    assert "Content-Security-Policy" not in answer.headers


async def test_a_base_template_that_is_not_there_is_told_at_once(redis_url: str) -> None:
    """And not to the first visitor of a page."""
    app = Quart("host")
    app.config["SERVICE_REDIS_URL"] = redis_url
    Jobs(app, tasks=[shop], base_template="layuot.html")
    with pytest.raises(ConfigurationError, match=r"`base_template=` names 'layuot\.html', which"):
        await app.startup()
    await app.shutdown()


async def test_an_app_whose_start_was_refused_can_be_stopped(redis_url: str) -> None:
    """By what the host does before ours begins."""
    app = Quart("host")
    app.config["SERVICE_REDIS_URL"] = redis_url

    @app.before_serving
    async def fail() -> None:
        raise LookupError("the host's own")

    Jobs(app, tasks=[shop])
    with pytest.raises(LookupError):
        await app.startup()
    await app.shutdown()


def test_one_module_is_as_good_as_a_list_of_one() -> None:
    """A text is a list of letters to Python, and to a type checker, too."""
    app = Quart("host")
    Jobs(app, tasks="tests.support.host_app")
    assert list(parts_of(app).tasks) == ["shop.sell"]


async def test_two_apps_do_not_mix(redis_url: str) -> None:
    """Not even when one object gives jobs to both."""
    jobs = Jobs(config={"SERVICE_REDIS_URL": redis_url})
    other = TaskBlueprint("other")
    other.task(name="shop.sell")(sell.function)
    apps = [Quart("one"), Quart("two")]
    apps[1].config["SERVICE_REDIS_URL"] = f"{redis_url.rpartition('/')[0]}/1"
    jobs.init_app(apps[0], tasks=[shop])
    jobs.init_app(apps[1], tasks=[other])
    assert get_celery(apps[0]) is not get_celery(apps[1])
    for app in apps:
        async with app.test_app(), app.app_context():
            (handle,) = parts_of(app).tasks.values()
            job = await handle.enqueue("tea")
            assert (await parts_of(app).store.get(job.id)).task == "shop.sell"
    async with apps[0].test_app():
        with pytest.raises(UnknownJobError):
            await parts_of(apps[0]).store.get(job.id)


async def test_mistakes_are_told_in_a_sentence() -> None:
    """Each says what to do."""
    app = Quart("host")
    jobs = Jobs(app)
    with pytest.raises(ConfigurationError, match=r"'host' has jobs already\. Call `init_app` once"):
        jobs.init_app(app)
    get_celery(app)
    with pytest.raises(ConfigurationError, match=r"too late.*`tasks=` of `init_app`"):
        shop.register(app)
    with pytest.raises(ConfigurationError, match=r"`tasks=` names 'no\.such', which cannot"):
        Jobs(Quart("other"), tasks=["no.such"])
    with pytest.raises(ConfigurationError, match="begins with `/`; 'ops' does not"):
        Jobs(dashboard="ops")
    with pytest.raises(ConfigurationError, match=r"'shop\.late' is declared too late"):
        shop.task(name="shop.late")(sell.function)
    with pytest.raises(ConfigurationError, match=r"`tasks=` .* <TaskHandle .* is neither"):
        Jobs(Quart("other"), tasks=[sell])  # type: ignore[list-item]  # the mistake
    with pytest.raises(TypeError, match=r"Jobs\(\) got an unexpected keyword argument 'titel'"):
        Jobs(titel="Work")  # type: ignore[call-arg]  # the mistake
    with pytest.raises(
        ConfigurationError, match=r"not a FastAPI\. Write `get_celery\(jobs\.app\)`"
    ):
        get_celery(FastAPI())  # type: ignore[arg-type]  # the mistake
    twin = TaskBlueprint("shop")
    twin.task(sell.function)
    with pytest.raises(DuplicateTaskError):
        Jobs(Quart("other"), tasks=[shop, twin])
    async with Quart("bare").app_context():
        with pytest.raises(NoJobsError, match=r"'bare' has no jobs\. Call `jobs\.init_app\(app\)`"):
            await sell.enqueue("tea")
        with pytest.raises(NoJobsError):
            await enqueue(get_celery(app).signature("shop.sell"))


def test_settings_come_in_quarts_usual_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the app is configured with wins over the environment, and that over `Jobs(…)`."""
    monkeypatch.setenv("SERVICE_MAX_QUEUE", "2")
    monkeypatch.setenv("SERVICE_MAX_WAITERS", "2")
    monkeypatch.setenv("QUART_SERVICE_MAX_WAITERS", "3")
    monkeypatch.setenv("QUART_SERVICE_CELERY__TIMEZONE", "Europe/Paris")
    app = Quart("host")
    app.config.from_prefixed_env()
    names = ("MAX_QUEUE", "MAX_WAITERS", "MAX_BODY")
    Jobs(app, config={f"SERVICE_{name}": 1 for name in names})
    settings = parts_of(app).settings
    assert (settings.max_queue, settings.max_waiters, settings.max_body) == (2, 3, 1)
    assert settings.celery["timezone"] == "Europe/Paris"


async def test_without_the_demonstration_the_front_page_says_what_to_do(redis_url: str) -> None:
    """Its task may be deleted, or never have been there."""
    app = Quart("service", static_folder=None)
    app.config["SERVICE_REDIS_URL"] = redis_url
    jobs = Jobs(url_prefix="", first_job=("demo.my_add", (1, 2)), whole_app=True)
    jobs.init_app(app, tasks=["tests.support.no_tasks"])
    async with app.test_app():
        client = app.test_client()
        told = await (await client.get("/")).get_json()
        assert "No job was started" in told["message"]
        assert told["tasks_url"] == "/tasks"
        assert "No task is public yet" in await text_of(client, "/", headers=BROWSER)


def test_the_demonstration_has_the_demo_tasks() -> None:
    """As it always had."""
    assert "demo.my_add" in parts_of(create_app()).tasks
