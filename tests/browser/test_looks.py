"""Every page in light and dark, wide and on a phone: nothing serious for axe, nothing too wide."""

from dataclasses import dataclass
from typing import Final, Literal

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # no types
from playwright.async_api import Browser, Page, expect

from tests.browser.forms import start
from tests.support.dead import DEAD, dead_letter
from tests.support.process import ROOT
from tests.support.site import TOKEN, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOTS: Final = ROOT / "tests" / "screenshots"


@dataclass(frozen=True)
class Look:
    """How somebody looks at the pages."""

    name: str
    scheme: Literal["light", "dark"]
    width: int
    height: int


LOOKS: Final = [
    Look("light", "light", 1280, 900),
    *(
        pytest.param(look, marks=pytest.mark.chaos)
        for look in (Look("dark", "dark", 1280, 900), Look("phone", "light", 390, 844))
    ),
    Look("phone-dark", "dark", 320, 640),  # as narrow as WCAG 1.4.10 asks for
]


@pytest.mark.timeout(240)  # eight pages, each looked through by axe
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: str(look.name))
async def test_the_pages_look_right(browser: Browser, served: Site, look: Look) -> None:
    """The screenshots are for people; see tests/screenshots/."""
    long_name = "a value without any place to break it " + "x" * 300
    addresses = {
        "failed": f"/result/{served.start_job('demo.fail', message=long_name)}",
        "finished": f"/result/{served.start_job('forms.secret', word=long_name)}",
        "running": f"/result/{served.start_job('forms.steps', total=40)}",
        "unknown": "/result/nobody-sent-this",
        "interface": "/docs",
        "sign-in": "/dashboard/sign-in",
    }
    context = await browser.new_context(
        color_scheme=look.scheme,
        viewport={"width": look.width, "height": look.height},
        reduced_motion="reduce",
    )
    page = await context.new_page()
    await show_front_page(page, served)
    await check(page, look, "front")
    for name, address in addresses.items():
        await page.goto(served.url + address)
        await check(page, look, name)
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.locator(".uplot")).to_have_count(2)
    await check(page, look, "dashboard")
    tried = served.start_job("forms.again", message=long_name)
    await page.goto(f"{served.url}/result/{tried}")
    await expect(page.locator(".attempts li").nth(1)).to_be_visible()
    await page.get_by_text("Cancel…").click()
    await check(page, look, "job-to-be-tried-again")
    await page.get_by_role("button", name="Cancel it").click()
    await expect(page.get_by_text("It was cancelled before it ran.")).to_be_visible()
    await page.goto(served.url + addresses["failed"])
    await page.locator("#trace-all summary").click()
    await check(page, look, "job-failed")
    await page.get_by_text("Run again…").click()
    await check(page, look, "run-again")
    await page.get_by_role("link", name="Dead letters").first.click()
    letter = dead_letter("a-job-that-ended-its-workers", "demo.find_primes", [10**9])
    with served.valkey.client() as redis:
        redis.lpush(DEAD, letter)
        await page.get_by_role("link", name="Dead letters").first.click()
        await page.get_by_text("Drop…").click()
        redis.lrem(DEAD, 1, letter)
    await check(page, look, "dead-letters")
    for name in ("Failures", "Audit"):
        await page.get_by_role("link", name=name).first.click()
        await expect(page.get_by_role("heading", name=name)).to_be_visible()
        await check(page, look, name.lower())
    await context.close()


async def show_front_page(page: Page, served: Site) -> None:
    """With a job in each state, and a mistake in a form."""
    await page.goto(served.url)
    await expect(page.locator(".card .value")).to_have_text("3")
    for task, values in (("demo.fail", {}), ("forms.steps", {"total": "40"})):
        await start(page, task, **values)
    await expect(page.locator(".card .failure")).to_be_visible()
    await page.locator("summary", has_text="forms.everything").click()
    form = page.get_by_role("form", name="forms.everything")
    await form.get_by_role("button", name="Start").click()
    await expect(form.locator("[data-name=count] .error")).not_to_be_empty()


async def check(page: Page, look: Look, name: str) -> None:
    """Take the picture, and see that nothing sticks out and that everybody can use it."""
    SHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SHOTS / f"{name}-{look.name}.png", full_page=name != "dashboard")
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= look.width, f"{name} is {wide} wide"
    found = (await Axe().run(page)).response["violations"]
    serious = [
        f"{each['id']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]
    assert not serious, name
