"""Gives the browser tests the system's Chromium, and a web and a worker process to look at."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.web import Web

_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium; where there is none a test is skipped, but in CI it fails."""
    found = [
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ]
    if not found:
        if os.environ.get("CI"):
            pytest.fail("CI has to have a Chromium: install it in .ci/run")
        pytest.skip("no Chromium on this machine")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found[0], args=_FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A new page in a new profile. An error on its console fails the test."""
    context = await browser.new_context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert not errors


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a web process that has a worker and a Valkey of its own."""
    folder: Path = tmp_path_factory.mktemp("site")
    with Valkey(folder) as valkey, Web(valkey.url) as web:
        worker = Process(
            [
                *(
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "worker_entry",
                    "worker",
                    "-c",
                    "2",
                    "-l",
                    "INFO",
                )
            ],
            env={"SERVICE_REDIS_URL": valkey.url},
            name="worker",
        )
        with worker:
            web.wait_until_ready()
            worker.wait_for_output(r"ready\.")
            yield web.url
