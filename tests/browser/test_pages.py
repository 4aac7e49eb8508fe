"""What a person sees."""

import re

from playwright.sync_api import Page, expect


def test_the_front_page_greets_and_shows_the_sum(page: Page, site: str) -> None:
    """Nobody has to reload it."""
    page.goto(site)
    expect(page.get_by_role("heading", name="Hello, world!")).to_be_visible()
    expect(page.locator(".value")).to_have_text("3", timeout=10_000)
    page.get_by_role("link", name=re.compile("-")).click()
    expect(page).to_have_url(re.compile("/result/"))
    expect(page.locator(".value")).to_have_text("3", timeout=10_000)


def test_without_scripts_the_result_page_refreshes_itself(page: Page, site: str) -> None:
    """It is readable by anything that shows HTML."""
    response = page.request.get(site, headers={"Accept": "application/json"})
    with page.context.browser.new_context(java_script_enabled=False) as context:  # type: ignore[union-attr]  # it has one
        plain = context.new_page()
        plain.goto(site + response.json()["result_url"])
        expect(plain.locator(".value")).to_have_text("3", timeout=10_000)


def test_an_unknown_job_is_told_in_words(page: Page, site: str) -> None:
    """With a way back."""
    response = page.goto(site + "/result/nobody-sent-this")
    assert response is not None
    assert response.status == 404
    expect(page.get_by_text("There is no job")).to_be_visible()
    page.get_by_role("link", name="front page").click()
    expect(page.get_by_role("heading", name="Hello, world!")).to_be_visible()
