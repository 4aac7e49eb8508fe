"""The page when the server goes away, and when event streams do not get through."""

import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_says_that_the_server_is_away_and_comes_back(
    page: Page, own_site: Site
) -> None:
    """By itself, with what happened meanwhile; a new form works at once."""
    await page.goto(own_site.url)
    await expect(page.locator(".card .value")).to_have_text("3")
    job_id = own_site.start_job("forms.steps", total=25, pause=0.1)
    followed = await page.context.new_page()
    await followed.goto(f"{own_site.url}/result/{job_id}")
    await expect(followed.locator(".note")).to_have_text(re.compile("step"))

    own_site.web.kill()

    away = re.compile("cannot be reached")
    await expect(page.locator("#connection")).to_have_text(away)
    await expect(followed.locator("#connection")).to_have_text(away)
    own_site.restart_web()
    await expect(page.locator("#connection")).to_have_text("Connected again.")
    await expect(page.locator("#connection")).to_have_text("")
    await expect(followed.locator(".state")).to_have_text("SUCCESS")
    form = page.get_by_role("form", name="demo.my_add")
    await form.get_by_label("a").fill("2")
    await form.get_by_label("b").fill("3")
    await form.get_by_role("button", name="Start").click()
    await expect(page.locator(".card .value").first).to_have_text("5")


async def follow_with(page: Page, served: Site, *, waiting: bool) -> set[str]:
    """Follow a job without event streams, maybe without long polls; how the server was asked."""
    asked: set[str] = set()

    async def route(route: Route) -> None:
        accept = route.request.headers.get("accept", "")
        if "event-stream" in accept:
            asked.add("stream")
            await route.abort()
        elif "wait=" in route.request.url and not waiting:
            asked.add("wait")
            await route.fulfill(status=503)
        else:
            asked.add("wait" if "wait=" in route.request.url else "poll")
            await route.continue_()

    await page.route("**/jobs?*", route)
    job_id = served.start_job("forms.steps", total=30, pause=0.1)
    await page.goto(f"{served.url}/result/{job_id}")
    await expect(page.locator(".note")).to_have_text(re.compile("step"))
    await expect(page.locator(".state")).to_have_text("SUCCESS", timeout=15_000)
    return asked


async def test_without_event_streams_it_polls_long(page: Page, served: Site) -> None:
    """Some proxies hold streams back."""
    assert {"stream", "wait"} <= await follow_with(page, served, waiting=True)


async def test_without_long_polls_it_polls(page: Page, served: Site) -> None:
    """And some cut whatever takes long."""
    assert {"stream", "wait", "poll"} <= await follow_with(page, served, waiting=False)
