"""What a person sees."""

import re

import pytest
from playwright.async_api import Browser, Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_front_page_greets_and_shows_the_sum(page: Page, site: str) -> None:
    """Nobody has to reload it."""
    await page.goto(site)
    await expect(page.get_by_role("heading", name="Hello, world!")).to_be_visible()
    await expect(page.locator(".value")).to_have_text("3", timeout=10_000)
    await page.get_by_role("link", name=re.compile("-")).click()
    await expect(page).to_have_url(re.compile("/result/"))
    await expect(page.locator(".value")).to_have_text("3", timeout=10_000)


async def test_without_scripts_the_result_page_refreshes_itself(
    page: Page, browser: Browser, site: str
) -> None:
    """It is readable by anything that shows HTML."""
    response = await page.request.get(site, headers={"Accept": "application/json"})
    context = await browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    await plain.goto(site + (await response.json())["result_url"])
    await expect(plain.locator(".value")).to_have_text("3", timeout=10_000)
    await context.close()


async def test_an_unknown_job_is_told_in_words(page: Page, site: str) -> None:
    """With a way back."""
    response = await page.goto(site + "/result/nobody-sent-this")
    assert response is not None
    assert response.status == 404
    await expect(page.get_by_text("There is no job")).to_be_visible()
    await page.get_by_role("link", name="front page").click()
    await expect(page.get_by_role("heading", name="Hello, world!")).to_be_visible()
