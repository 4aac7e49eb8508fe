"""Gives the browser tests the system's Chromium, and a web and a worker process to look at."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.support.site import Site, running_site
from tests.support.wait import PATIENCE

_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    "--host-resolver-rules=MAP jobs.example 127.0.0.1",  # a name that is not this machine's own
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

expect.set_options(timeout=PATIENCE * 1000)  # as with all else that tests wait for


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
    """A new page in a new profile. An error of a script, or against the policy, fails the test."""
    context = await browser.new_context()
    page = await context.new_page()
    errors: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            errors.append(message.text)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", on_console)
    yield page
    await context.close()
    assert not errors


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A web process that has a worker and a Valkey of its own; shared, so leave it running."""
    folder: Path = tmp_path_factory.mktemp("site")
    with running_site(folder) as site:
        yield site


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """The same, for a test that stops parts of it."""
    with running_site(tmp_path) as site:
        yield site


@pytest.fixture
def site(served: Site) -> str:
    """The address of the shared site."""
    return served.url
