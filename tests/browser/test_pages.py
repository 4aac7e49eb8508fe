"""What a person sees."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_front_page_greets_and_shows_the_sum(page: Page, site: str) -> None:
    """Nobody has to reload it."""
    await page.goto(site)
    await expect(page.get_by_role("heading", name="Hello, world!")).to_be_visible()
    card = page.locator(".card")
    await expect(card.locator(".value")).to_have_text("3")
    await expect(card.locator(".state")).to_have_text("SUCCESS")
    await card.get_by_role("link", name=re.compile("-")).click()
    await expect(page).to_have_url(re.compile("/result/"))
    await expect(page.locator(".value")).to_have_text("3")


async def test_without_scripts_the_pages_refresh_themselves(
    page: Page, browser: Browser, site: str
) -> None:
    """They are readable by anything that shows HTML, and the front page starts just one job."""
    response = await page.request.get(site, headers={"Accept": "application/json"})
    context = await browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    await plain.goto(site + (await response.json())["result_url"])
    await expect(plain.locator(".value")).to_have_text("3")
    await plain.goto(site)
    job_id = await plain.locator(".card").get_attribute("data-id")
    await expect(plain.locator(".value")).to_have_text("3")
    assert await plain.locator(".card").get_attribute("data-id") == job_id
    await context.close()


async def test_without_scripts_a_form_starts_its_job(browser: Browser, site: str) -> None:
    """And a mistake is told in words."""
    context = await browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    await plain.goto(site)
    form = plain.get_by_role("form", name="demo.my_add")
    await form.get_by_label("a").fill("20")
    await form.get_by_label("b").fill("22")
    await form.get_by_role("button", name="Start").click()
    await expect(plain).to_have_url(re.compile("/result/"))
    await expect(plain.locator(".value")).to_have_text("42")
    await plain.goto(site)
    await plain.get_by_role("form", name="demo.my_add").get_by_role("button", name="Start").click()
    await expect(plain.get_by_text("argument 'a'")).to_be_visible()
    await context.close()


async def test_an_unknown_job_is_told_in_words(page: Page, site: str) -> None:
    """With a way back."""
    response = await page.goto(site + "/result/nobody-sent-this")
    assert response is not None
    assert response.status == 404
    await expect(page.get_by_text("There is no job")).to_be_visible()
    await page.get_by_role("link", name="front page").click()
    await expect(page.get_by_role("heading", name="Hello, world!")).to_be_visible()


async def test_a_jobs_page_tells_all_that_is_known(
    page: Page, served: Site, tmp_path: Path
) -> None:
    """Its way, with the times between; its arguments; its result; and the raw JSON."""
    end = tmp_path / "end"
    await page.goto(f"{served.url}/result/{served.start_job('forms.until', path=str(end))}")
    await expect(page.get_by_role("progressbar")).to_be_visible()
    await expect(page.locator(".timeline .now")).to_contain_text("step")
    end.touch()
    await expect(page.locator(".state")).to_have_text("SUCCESS")
    await expect(page.locator(".timeline li")).to_have_count(3)
    await expect(page.locator(".timeline")).to_contain_text(re.compile(r"Started[^F]*waited \d"))
    await expect(page.locator(".timeline")).to_contain_text(re.compile(r"Finished[^Q]*ran"))
    await expect(page.locator(".arguments")).to_have_text(re.compile(r'path\s*".*/end"'))
    await expect(page.locator("pre.value")).to_have_text(re.compile(r"^\d+$"))
    await page.get_by_role("link", name="Raw JSON").click()
    await expect(page.locator("body")).to_contain_text('"state":"SUCCESS"')


async def test_arguments_are_shown_only_where_the_task_allows_it(page: Page, served: Site) -> None:
    """They may be anybody's secrets."""
    await page.goto(f"{served.url}/result/{served.start_job('forms.secret', word='hush')}")
    await expect(page.locator("pre.value")).to_have_text('"HUSH"')
    await expect(page.get_by_text("does not show its arguments")).to_be_visible()
    assert "hush" not in await page.content()


async def test_a_failure_is_told_without_internals(page: Page, served: Site) -> None:
    """The traceback is in the worker's log."""
    await page.goto(f"{served.url}/result/{served.start_job('demo.fail', message='no luck')}")
    await expect(page.locator(".panel.failure")).to_contain_text("RuntimeError")
    await expect(page.locator(".panel.failure")).to_contain_text("no luck")
    assert "Traceback" not in await page.content()


@pytest.mark.parametrize("task", ["forms.markup", "forms.failing_markup"])
async def test_what_a_task_gives_is_never_code(page: Page, served: Site, task: str) -> None:
    """A result, an error, a note and an argument are text, whatever is in them."""
    job_id = served.start_job(task)
    for address in (f"/result/{job_id}", f"/?job={job_id}"):
        await page.goto(served.url + address)
        await expect(page.locator(f"[data-id='{job_id}'] .value")).to_contain_text("owned")
        assert "owned" not in await page.title()
        assert await page.locator(".value script, .value img").count() == 0


async def test_a_result_of_a_megabyte_can_be_read(page: Page, served: Site) -> None:
    """On its card its beginning, on its page more, and the raw JSON has all."""
    job_id = served.start_job("forms.big", letters=1_000_000)
    await page.goto(f"{served.url}/result/{job_id}")
    await expect(page.locator(".state")).to_have_text("SUCCESS")
    await expect(page.get_by_text("This is its beginning")).to_be_visible()
    assert len(await page.locator("pre.value").inner_text()) == 200_000
    raw = await page.request.get(f"{served.url}/result/{job_id}?format=json")
    assert len((await raw.json())["result"]) == 1_000_000
    await page.goto(f"{served.url}/?job={job_id}")
    card = page.locator(f"[data-id='{job_id}'] .value")
    await expect(card).to_have_text(re.compile("x…$"))
    assert len(await card.inner_text()) < 500
