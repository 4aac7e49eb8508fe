"""The programs of the guides in service/docs, run as they are written."""

import ast
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_COROUTINE
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
import pytest
from quart import Quart, current_app

from service import Action, Caller, Subject, create_app
from service.jobs.job import CurrentJob
from service.jobs.job import running as running_job
from service.settings import read_settings
from service.testing import run_jobs
from tests.support.ports import free_port
from tests.support.process import ROOT, Process
from tests.support.wait import wait_until
from tests.support.workers import worker_process

GUIDES = ROOT / "service/docs"
_EXAMPLE = "http://127.0.0.1:8000"
_JSON = {"Content-Type": "application/json"}
_STOCK = """

@tasks.task
async def left(item: str) -> int:
    from quart import current_app

    return current_app.extensions["shop.stock"][item]
"""
# Their tests run all snippets that there are; tests/unit/test_readme.py sees to changing.md.
_RUN_WHOLE = {
    "tasks.md",
    "settings.md",
    "http.md",
    "promises.md",
    "logging.md",
    "testing.md",
    "changing.md",
}
_SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def program(guide: str, section: str, folder: Path) -> None:
    """Write the files of a section of a guide into the folder."""
    text = (GUIDES / guide).read_text()
    (found,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    named = r"```(?:python\n#|html\n<!--) (\S+)(?: -->)?\n(.*?)```"
    for path, code in re.findall(named, found, re.DOTALL):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(code)


def importable(folder: Path, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Have the folder's modules found, and forgotten at the end."""
    monkeypatch.syspath_prepend(folder)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]


@contextmanager
def running(
    folder: Path,
    redis_url: str,
    *server: str,
    env: dict[str, str] | None = None,
    worker: tuple[str, ...] = (),
) -> Iterator[httpx.Client]:
    """The program's worker, and its web side behind a client."""
    env = {"SERVICE_REDIS_URL": redis_url, **(env or {}), "PYTHONPATH": f"{folder}:{ROOT}"}
    bind = f"127.0.0.1:{free_port()}"
    server = server or ("hypercorn", "asgi:app", "--bind", bind)
    celery = ("celery", "-A", "worker_entry", "worker", "--loglevel", "INFO", "--concurrency", "2")
    with (
        Process(
            [sys.executable, "-m", *celery, *worker], cwd=folder, env=env, name="worker"
        ) as ours,
        Process(
            [
                sys.executable,
                "-m",
                *(part.format(bind=bind, port=bind.partition(":")[2]) for part in server),
            ],
            cwd=folder,
            env=env,
            name="web",
        ) as web,
        httpx.Client(base_url=f"http://{bind}", timeout=10) as client,
    ):
        web.wait_for_output("[Rr]unning on")
        ours.wait_for_output(r"ready\.")
        yield client


def result_of(client: httpx.Client, address: str) -> object:
    """What the job at this address returned."""
    found = wait_until(
        lambda: (body := client.get(address).json())["ready"] and body,
        description=f"{address} has a result",
    )
    assert found
    return found["result"]


def test_a_quart_app_with_jobs(tmp_path: Path, redis_url: str) -> None:
    """A route of its own starts a job, which is followed under the prefix."""
    program("embedding.md", "Into a Quart app", tmp_path)
    with running(tmp_path, redis_url) as client:
        address = client.post("/sign-up/ada@example.org").json()["follow"]
        assert address.startswith("/jobs/result/")
        assert result_of(client, address) == "sent to ada@example.org"
        page = client.get(address, headers={"Accept": "text/html"})
        assert "ada@example.org" in page.text


@pytest.mark.parametrize(
    "server",
    [
        ("hypercorn", "asgi:app", "--bind", "{bind}"),
        ("uvicorn", "asgi:app", "--port", "{port}", "--root-path", "/app"),
    ],
    ids=["hypercorn", "uvicorn behind a proxy"],
)
def test_a_fastapi_app_with_jobs(tmp_path: Path, redis_url: str, server: tuple[str, ...]) -> None:
    """A handler of its own starts a job, which is followed under the mount."""
    program("embedding.md", "Into FastAPI, Starlette, or any ASGI app", tmp_path)
    with running(tmp_path, redis_url, *server) as client:
        address = client.post("/sign-up/ada@example.org").json()["follow"]
        assert result_of(client, address) == "sent to ada@example.org"
        root = "/app" if "--root-path" in server else ""
        started = client.post("/jobs/tasks/shop.send_welcome", json={"address": "x"})
        assert started.headers["Location"].startswith(f"{root}/jobs/result/")
        page = client.get(address, headers={"Accept": "text/html"})
        assert f'href="{root}/jobs/static/css/base.css"' in page.text
        with client.stream("GET", f"{address}/events") as stream:
            assert "sent to ada" in "".join(stream.iter_text())


async def test_what_the_tasks_of_a_host_need_is_open_where_they_run(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that asks for it is added to those of the guide."""
    program("embedding.md", "Into FastAPI, Starlette, or any ASGI app", tmp_path)
    with (tmp_path / "shop/tasks.py").open("a") as file:
        file.write(_STOCK)
    monkeypatch.setenv("SERVICE_REDIS_URL", redis_url)
    importable(tmp_path, monkeypatch, "shop", "shop.tasks", "shop.resources")
    jobs = importlib.import_module("shop.resources").jobs
    async with run_jobs(jobs) as runner:
        left = importlib.import_module("shop.tasks").left
        assert await runner.run(left, "tea") == 3


async def test_pages_that_look_like_the_host(tmp_path: Path, redis_url: str) -> None:
    """Its layout is around them, with the title and the mark."""
    program("embedding.md", "Pages that look like yours", tmp_path)
    names: dict[str, Any] = {}
    code = compile((tmp_path / "shop/looks.py").read_text(), "looks", "exec")
    exec(code, names)  # noqa: S102  it is our own guide
    app = Quart("shop", root_path=str(tmp_path))
    app.config["SERVICE_REDIS_URL"] = redis_url
    names["jobs"].init_app(app)
    async with app.test_app():
        answer = await app.test_client().get("/jobs/", headers={"Accept": "text/html"})
        page = await answer.get_data(as_text=True)
    assert '<header><a href="/">Shop</a></header>' in page
    assert "<title>Work</title>" in page
    assert 'src="/static/logo.svg"' in page


def test_a_policy_lets_the_support_see_jobs_without_their_arguments(tmp_path: Path) -> None:
    """tests/browser/test_access.py runs the program of the guide that has users."""
    program("security.md", "A policy of your own", tmp_path)
    names: dict[str, Any] = {}
    code = compile((tmp_path / "shop/policy.py").read_text(), "policy", "exec")
    exec(code, names)  # noqa: S102  it is our own guide
    support, job = Caller("eve", {"support"}), Subject(job_id="one", owner="ada")
    assert names["allow"](support, Action.SEE, job)
    assert not names["allow"](support, Action.SEE_ARGUMENTS, job)
    assert not names["allow"](Caller("bob"), Action.SEE, job)


def snippets(guide: str) -> tuple[str, list[str]]:
    """The module that the guide's snippets make, and those that use it."""
    found = _SNIPPET.findall((GUIDES / guide).read_text())
    module = [each for each in found if each.startswith("# shop.py\n")]
    return "\n".join(module), [each for each in found if each not in module]


async def test_tasks_and_their_arguments(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader copies from it."""
    module, uses = snippets("tasks.md")
    (tmp_path / "shop.py").write_text(module)
    importable(tmp_path, monkeypatch, "shop")
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_TASK_MODULES": "shop"})
    worker = worker_process(
        "asyncio", redis_url, tmp_path, SERVICE_TASK_MODULES="shop", PYTHONPATH=str(tmp_path)
    )
    with worker:
        async with app.test_app(), app.app_context():
            names = {**vars(importlib.import_module("shop")), "current_app": current_app}
            for source in uses:
                code = compile(source, "tasks.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                value = FunctionType(code, names)()
                if code.co_flags & CO_COROUTINE:
                    await value
    assert len(uses) > 4


def run_as_one(guide: str, *, address: str = _EXAMPLE) -> dict[str, Any]:
    """Run all snippets of a guide as one program, with this address of the web side; its names."""
    names: dict[str, Any] = {"__name__": __name__}  # Quart looks for the folder of the module
    source = "\n".join(_SNIPPET.findall((GUIDES / guide).read_text()))
    exec(compile(source.replace(_EXAMPLE, address), guide, "exec"), names)  # noqa: S102  it is ours
    return names


def commands(guide: str) -> list[list[str]]:
    """The words of each shell command of a guide."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (GUIDES / guide).read_text(), re.MULTILINE | re.DOTALL
    )
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which they win, and Celery's own."""
    for name in ("SERVICE_GRACE", "SERVICE_LEASE"):
        monkeypatch.setenv(name, "1")  # so that the guide's values are undone at the end
    run_as_one("settings.md")
    exported = dict(words[1].split("=", 1) for words in commands("settings.md"))
    celery = read_settings(exported).celery
    assert celery["task_routes"] == {"shop.*": {"queue": "shop"}}
    assert celery["broker_transport_options"] == {"global_keyprefix": "shop:"}
    assert celery["result_backend_transport_options"] == {"global_keyprefix": "shop:"}


def test_http(tmp_path: Path, redis_url: str) -> None:
    """All but the address is as a reader of the guide sends it."""
    with running(tmp_path, redis_url) as client:
        run_as_one("http.md", address=str(client.base_url).rstrip("/"))["client"].close()
        ((*_, url, _, body),) = commands("http.md")
        answer = client.post(url.removeprefix(_EXAMPLE), content=body, headers=_JSON)
        assert answer.status_code == 202


async def test_a_task_of_the_promises_does_no_harm_twice() -> None:
    """Its second run, which has the same id, pays nothing."""
    names = run_as_one("promises.md")
    job = CurrentJob(id="job-1", task="shop.pay", retries=0, report=lambda _: None)
    token = running_job.set(job)
    try:
        assert [await names["pay"](100), await names["pay"](200)] == [100, 100]
    finally:
        running_job.reset(token)
    assert names["paid"] == {"job-1": 100}


def test_logging(tmp_path: Path) -> None:
    """In a process of its own, which they change."""
    source = "\n".join(_SNIPPET.findall((GUIDES / "logging.md").read_text()))
    source += """
logging.getLogger("shop").info("sold")
assert CeleryInstrumentor().is_instrumented_by_opentelemetry
"""
    with Process([sys.executable, "-c", source], cwd=tmp_path) as process:
        assert process.wait() == 0
        assert json.loads(process.output)["message"] == "sold"


def test_every_python_snippet_is_run_by_a_test() -> None:
    """A new one, too: tests run its guide whole, or name its section, and something its module."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    calls = re.findall(r'\bprogram\(f?"(\S+)", "([^"]+)", ', tests)
    programs = [(re.sub(r"{\w+}", ".*", guide), section) for guide, section in calls]
    not_run = []
    for path in GUIDES.glob("*.md"):
        if path.name in _RUN_WHOLE:
            continue
        guide = path.read_text()
        before, *rest = re.split(r"^## (.*)\n", guide, flags=re.MULTILINE)
        for heading, text in [("", before), *zip(rest[::2], rest[1::2], strict=True)]:
            is_written = any(
                re.fullmatch(pattern, path.name) and section == heading
                for pattern, section in programs
            )
            for code in _SNIPPET.findall(text):
                module = re.match(r"# (\S+)\.py\n", code)
                name = module[1].replace("/", "[/.]") if module else "(?!)"
                is_named = re.search(rf"\b{name}\b", guide.replace(code, "") + tests)
                if not (is_written and is_named):
                    not_run.append((path.name, heading, code))
    assert not_run == []
