"""The page when the server goes away, and when event streams do not get through."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.site import Site
from tests.support.wait import wait_until_async

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_says_that_the_server_is_away_and_comes_back(
    page: Page, own_site: Site, tmp_path: Path
) -> None:
    """By itself, with what happened meanwhile; a new form works at once."""
    await page.goto(own_site.url)
    await expect(page.locator(".card .value")).to_have_text("3")
    job_id = own_site.start_job("forms.until", path=str(tmp_path / "end"))
    followed = await page.context.new_page()
    await followed.goto(f"{own_site.url}/result/{job_id}")
    await expect(followed.locator(".note")).to_have_text(re.compile("step"))

    own_site.web.kill()

    away = re.compile("cannot be reached")
    await expect(page.locator("#connection")).to_have_text(away)
    await expect(followed.locator("#connection")).to_have_text(away)
    (tmp_path / "end").touch()
    own_site.restart_web()
    # It says "Connected again." for two seconds, in which a busy machine may not look.
    await expect(page.locator("#connection")).to_have_attribute("data-kind", "back")
    await expect(page.locator("#connection")).to_have_text("")
    await expect(followed.locator(".state")).to_have_text("SUCCESS")
    form = page.get_by_role("form", name="demo.my_add")
    await form.get_by_label("a").fill("2")
    await form.get_by_label("b").fill("3")
    await form.get_by_role("button", name="Start").click()
    await expect(page.locator(".card .value").first).to_have_text("5")


async def follow_with(page: Page, served: Site, end: Path, ways: set[str]) -> None:
    """Follow a job without event streams, maybe without long polls, until all ways were tried."""
    asked: set[str] = set()
    waiting = "poll" not in ways

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
    job_id = served.start_job("forms.until", path=str(end))
    await page.goto(f"{served.url}/result/{job_id}")
    await expect(page.locator(".note")).to_have_text(re.compile("step"))
    await wait_until_async(lambda: ways <= asked, timeout=30, description=f"asked by {ways}")
    await asyncio.to_thread(end.touch)
    await expect(page.locator(".state")).to_have_text("SUCCESS")


async def test_without_event_streams_it_polls_long(
    page: Page, served: Site, tmp_path: Path
) -> None:
    """Some proxies hold streams back."""
    await follow_with(page, served, tmp_path / "end", {"stream", "wait"})


async def test_without_long_polls_it_polls(page: Page, served: Site, tmp_path: Path) -> None:
    """And some cut whatever takes long."""
    await follow_with(page, served, tmp_path / "end", {"stream", "wait", "poll"})
