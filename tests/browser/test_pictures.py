"""The pictures of README.md, taken of its own program as it runs; `--renew-pictures` keeps them."""

import re
import sys
from pathlib import Path
from typing import Final

import pytest
from PIL import Image
from playwright.async_api import Browser, Page, ViewportSize, expect

from tests.browser.forms import start
from tests.support.process import ROOT, Process

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEPT: Final = ROOT / "service/docs/images"
SIZE: Final = ViewportSize(width=1280, height=860)
COLOURS: Final = 96
BYTES: Final = 50_000  # of each: the wheel has them, too
TOKEN: Final = "the-token-of-a-service-in-a-picture"  # noqa: S105  of a server that lives for a test


async def test_the_pictures_show_what_runs(
    request: pytest.FixtureRequest, browser: Browser, tmp_path: Path
) -> None:
    """Where a page has lost what they show, they can no longer be taken; so they are true."""
    program = re.search(
        r"```python\n(# hello\.py\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert program
    (tmp_path / "hello.py").write_text(program[1])
    command = [sys.executable, "-m", "service", "dev", "--bind", "127.0.0.1:0"]
    env = {"SERVICE_TASK_MODULES": "hello", "SERVICE_ADMIN_TOKEN": TOKEN}
    context = await browser.new_context(viewport=SIZE, color_scheme="light")
    page = await context.new_page()
    pictures = {name: tmp_path / f"{name}.png" for name in ("page", "dashboard")}
    with Process(command, cwd=tmp_path, env=env, name="service dev") as dev:
        url = dev.wait_for_output(r"Serving on (\S+)")[1]
        await show_front_page(page, url)
        await page.screenshot(path=pictures["page"])
        await page.goto(f"{url}/dashboard/sign-in#token={TOKEN}")
        await expect(page.locator(".uplot")).to_have_count(2)
        await expect(page.locator("[data-fragment=tasks]")).to_contain_text("hello.greet")
        await page.screenshot(path=pictures["dashboard"])
    await context.close()
    for name, path in pictures.items():
        few_colours = Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few_colours.save(path, optimize=True)
        assert path.stat().st_size < BYTES
        kept = KEPT / path.name
        if request.config.getoption("renew_pictures"):
            kept.write_bytes(path.read_bytes())
        with Image.open(kept) as picture:
            assert picture.size == (SIZE["width"], SIZE["height"]), name


async def show_front_page(page: Page, url: str) -> None:
    """With a job in each of the states that differ most."""
    await page.goto(url)
    await expect(page.locator(".card .value")).to_have_text("3")
    await start_and_close(page, "hello.greet", name="Ada", seconds="1")
    await expect(page.locator(".card[data-task='hello.greet']")).to_contain_text("Hello, Ada!")
    await start_and_close(page, "demo.fail")
    await expect(page.locator(".card .failure")).to_be_visible()
    await start(page, "demo.count_slowly", steps="60", pause="0.5")
    await expect(page.locator(".card[data-task='demo.count_slowly']")).to_contain_text(
        re.compile(r"step ([5-9]|\d\d)")  # which holds for half a minute
    )
    await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


async def start_and_close(page: Page, task: str, **values: str) -> None:
    """Start a job by its form, and close the form again."""
    await start(page, task, **values)
    await page.locator("summary", has_text=task).click()
