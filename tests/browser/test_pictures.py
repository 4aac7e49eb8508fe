"""The pictures of README.md, taken of its own program as it runs; `--renew-pictures` keeps them."""

import asyncio
import random
import re
import sys
from pathlib import Path
from typing import Final

import httpx
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
LIMITS: Final = "requests=9999/1s,starts=9999/1s,open-jobs=off,open-bytes=off"
SEED: Final = 7
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
    env = {"SERVICE_TASK_MODULES": "hello", "SERVICE_ADMIN_TOKEN": TOKEN, "SERVICE_LIMITS": LIMITS}
    context = await browser.new_context(viewport=SIZE, color_scheme="light")
    page = await context.new_page()
    pictures = {name: tmp_path / f"{name}.png" for name in ("page", "dashboard")}
    with Process(command, cwd=tmp_path, env=env, name="service dev") as dev:
        url = dev.wait_for_output(r"Serving on (\S+)")[1]
        await show_front_page(page, url)
        await page.screenshot(path=pictures["page"])
        if request.config.getoption("renew_pictures"):
            await do_some_work(url)
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


async def do_some_work(url: str) -> None:
    """Jobs of all kinds for two minutes, so that there is something to see in the charts."""
    chance = random.Random(SEED)  # noqa: S311  it only picks jobs
    kinds: dict[str, tuple[int, dict[str, object]]] = {
        "demo.my_add": (6, {"a": 1, "b": 2}),
        "hello.greet": (4, {"name": "Ada", "seconds": 2}),
        "demo.find_primes": (4, {"limit": 500_000}),
        "demo.count_slowly": (2, {"steps": 10, "pause": 0.8}),
        "demo.fail": (1, {"message": "the mail server does not answer"}),
    }
    weights = [weight for weight, _ in kinds.values()]
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for second in range(120):
            for task in chance.choices([*kinds], weights, k=2 + second % 7 + second // 20):
                await client.post(f"/tasks/{task}", json=kinds[task][1])
            await asyncio.sleep(1)


async def start_and_close(page: Page, task: str, **values: str) -> None:
    """Start a job by its form, and close the form again."""
    await start(page, task, **values)
    await page.locator("summary", has_text=task).click()
