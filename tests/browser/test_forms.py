"""Starting jobs from the front page, and following them there."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.browser.forms import first_card, form_of
from tests.support.site import Site, running_site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_bar_moves_and_the_result_arrives(page: Page, site: str, tmp_path: Path) -> None:
    """Without a reload; the newest job is on top, and stays there after one."""
    await page.goto(site)
    form = await form_of(page, "forms.until")
    await form.get_by_label("path").fill(str(tmp_path / "end"))
    await form.get_by_role("button", name="Start").click()
    card = first_card(page)
    await expect(card).to_have_attribute("data-task", "forms.until")
    bar = card.get_by_role("progressbar")
    await expect(bar).to_have_attribute("value", re.compile(r"^[1-9]\d?$"))
    await expect(card.locator(".note")).to_have_text(re.compile(r"step \d\d"))
    (tmp_path / "end").touch()
    await expect(card.locator(".value")).to_have_text(re.compile(r"^\d\d+$"))
    await expect(card).to_contain_text(re.compile(r"took \d+(\.\d)? s"))
    await expect(page.locator("#announcements")).to_have_text("forms.until finished")
    await page.reload()
    await expect(page.locator(".card").nth(1)).to_have_attribute("data-task", "forms.until")
    await expect(page.locator(".card").nth(1).locator(".value")).to_have_text(re.compile(r"\d\d"))


async def test_every_kind_of_argument_has_its_field(page: Page, site: str) -> None:
    """And arrives as what the task's signature says."""
    await page.goto(site)
    form = await form_of(page, "forms.everything")
    await form.get_by_label("count").fill("7")
    await form.get_by_label("share").fill("0.5")
    await form.get_by_label("name").fill("Ada")
    await form.get_by_label("colour").select_option("green")
    await expect(form.get_by_label("level")).to_have_value("3")
    await form.get_by_label("loud").uncheck()
    await form.get_by_label("numbers").fill("1\n2\n3")
    await form.get_by_label("words").fill("one\ntwo words")
    await form.get_by_label("more").fill('{"x": 1}')
    await form.get_by_role("button", name="Start").click()
    value = first_card(page).locator(".value")
    await expect(value).to_have_text(re.compile("two words"))
    assert re.sub(r"\s", "", await value.inner_text()) == (
        '[7,0.5,"Ada","green",3,false,[1,2,3],["one","twowords"],{"x":1}]'
    )
    await first_card(page).get_by_role("button", name="Run again").click()
    await expect(page.locator(".card[data-task='forms.everything']")).to_have_count(2)
    await expect(first_card(page).locator(".value")).to_have_text(re.compile("two words"))


@pytest.mark.parametrize(
    ("label", "wrong", "reason"),
    [
        ("count", "", "required"),
        ("count", "1.5", "not a whole number"),
        ("count", "9007199254740993", "too large for this page"),
        ("more", '{"x": [9007199254740993]}', "too large for this page"),
        ("level", "11", "more than 10"),
        ("level", "0", "less than 1"),
        ("numbers", "1\ntwo", "not a number"),
        ("more", "{", "not JSON"),
        ("more", '{"x": "one"}', "Expected `int"),
    ],
)
async def test_a_mistake_is_told_at_its_field(
    page: Page, site: str, label: str, wrong: str, reason: str
) -> None:
    """Whether the page notices it or the server; the focus goes there, nothing is started."""
    await page.goto(site)
    form = await form_of(page, "forms.everything")
    for name, value in (("count", "1"), ("share", "1"), ("name", "x")):
        await form.get_by_label(name).fill(value)
    field = form.get_by_label(label)
    await field.fill(wrong)
    await form.get_by_role("button", name="Start").click()
    await expect(form.locator(f"[data-name={label}] .error")).to_contain_text(reason)
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(field).to_be_focused()
    await expect(page.locator(".card[data-task='forms.everything']")).to_have_count(0)


async def test_a_running_job_is_cancelled(page: Page, site: str) -> None:
    """By its button, which then is one to run it again."""
    await page.goto(site)
    form = await form_of(page, "forms.steps")
    await form.get_by_label("total").fill("1000")
    await form.get_by_role("button", name="Start").click()
    card = first_card(page)
    await expect(card.locator(".note")).to_have_text(re.compile("step"))
    await card.get_by_role("button", name="Cancel").click()
    await expect(card.locator(".state")).to_have_text("REVOKED")
    await expect(card.get_by_role("button", name="Run again")).to_be_visible()


async def test_a_job_that_has_expired_is_told_and_followed_no_longer(
    page: Page, tmp_path: Path
) -> None:
    """Redis tells nobody that a record has gone; one that has ended can still be run again."""
    lasts = {"SERVICE_RESULT_EXPIRES": "6", "SERVICE_HEARTBEAT": "0.5"}
    with running_site(tmp_path, **lasts) as site:
        await page.goto(site.url)
        ended = page.locator(".card[data-task='demo.my_add']").last
        await expect(ended.locator(".value")).to_have_text("3")
        site.worker.stop()
        form = await form_of(page, "forms.steps")
        await form.get_by_role("button", name="Start").click()
        waiting = page.locator(".card[data-task='forms.steps']")
        await expect(waiting.locator(".state")).to_have_text("QUEUED")
        alone = await page.context.new_page()
        await alone.goto(f"{site.url}/result/{await waiting.get_attribute('data-id')}")
        with site.valkey.client() as redis:  # the record of a job that has not ended would stay
            redis.delete(f"celery-task-meta-{await waiting.get_attribute('data-id')}")
        for job in (ended, waiting, alone.locator(".job")):
            await expect(job.locator(".state")).to_have_text("EXPIRED")
            await expect(job.get_by_text("nothing is known of this job any more")).to_be_visible()
            await expect(job.get_by_role("progressbar")).to_have_count(0)
            await expect(job.get_by_role("button", name="Cancel")).to_have_count(0)
        await ended.get_by_role("button", name="Run again").click()
        await expect(first_card(page).locator(".state")).to_have_text("QUEUED")


async def test_the_keyboard_is_enough(page: Page, site: str) -> None:
    """From the address bar to a started and cancelled job, without losing the focus."""
    await page.goto(site)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="To the content")).to_be_focused()
    await page.keyboard.press("Enter")
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent.includes('forms.steps')"):
            break
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Control+A")
    await page.keyboard.type("1000")
    await page.keyboard.press("Enter")
    card = first_card(page)
    await expect(card.locator(".note")).to_have_text(re.compile("step"))
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.dataset.action === 'cancel'"):
            break
    await expect(card.locator(".note")).to_have_text(re.compile("step [1-9][0-9]"))
    await expect(card.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(card.locator(".state")).to_have_text("REVOKED")
    await expect(card.get_by_role("button", name="Run again")).to_be_focused()


async def test_two_tabs_show_the_same_jobs(page: Page, served: Site) -> None:
    """The list is the browser's, not the page's."""
    await page.goto(served.url)
    await expect(first_card(page).locator(".value")).to_have_text("3")
    other = await page.context.new_page()
    await other.goto(served.url)
    await expect(other.locator(".card")).to_have_count(2)
    await other.close()


async def test_what_was_not_answered_is_sent_again_with_the_same_key(page: Page, site: str) -> None:
    """So that it makes no second job; the next one that is wanted has another key."""
    keys: list[str] = []

    async def answer(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            await route.fulfill(status=503, json={"detail": "Redis is not available."})
        else:
            await route.continue_()

    await page.route("**/tasks/forms.secret", answer)
    await page.goto(site)
    form = await form_of(page, "forms.secret")
    await form.get_by_label("word").fill("hush")
    start = form.get_by_role("button", name="Start")
    await start.click()
    await expect(form.locator(".problem")).to_have_text("Redis is not available.")
    for count in (1, 2):
        await start.click()
        await expect(page.locator(".card[data-task='forms.secret']")).to_have_count(count)
    assert keys[0] == keys[1] != keys[2]


async def test_forms_work_on_plain_http_under_any_name(browser: Browser, served: Site) -> None:
    """A browser says there only by Origin where a form comes from, and only where it may."""
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(served.url.replace("127.0.0.1", "jobs.example"))
    form = await form_of(page, "forms.secret")
    await form.get_by_label("word").fill("hush")
    await form.get_by_role("button", name="Start").click()
    await expect(page.get_by_role("heading", name="forms.secret")).to_be_visible()
    await context.close()


async def test_an_object_is_filled_in_field_by_field(page: Page, site: str) -> None:
    """What the server refuses is told at the field, not at the object."""
    await page.goto(site)
    form = await form_of(page, "forms.register")
    await form.get_by_label("guest.name").fill("Ada")
    await form.get_by_label("guest.deposit").fill("plenty")
    await form.get_by_label("guest.address.street").fill("Main Street")
    await form.get_by_label("guest.address.number").fill("11")
    await form.get_by_role("button", name="Start").click()
    error = form.locator('[data-name="guest.deposit"] .error')
    await expect(error).to_contain_text("Invalid decimal")
    await form.get_by_label("guest.deposit").fill("1.50")
    await form.get_by_role("button", name="Start").click()
    value = first_card(page).locator(".value")
    await expect(value).to_have_text('"Ada, grown-up, of Main Street 12"')
