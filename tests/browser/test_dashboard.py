"""What whoever runs the service sees."""

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.support.dead import DEAD, dead_letter
from tests.support.site import TOKEN, Site, site_worker

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def open_dashboard(page: Page, site: Site) -> None:
    """Follow the link that signs in."""
    await page.goto(site.sign_in_url)
    await expect(page.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()
    assert TOKEN not in page.url


async def top_of(place: Locator) -> float:
    """Where it begins in the window, in CSS pixels."""
    return float(await place.evaluate("place => place.getBoundingClientRect().top"))


async def filter_by(page: Page, link: Locator, row: Locator, *, words: str) -> None:
    """Follow a link that filters, which leaves the row there, and take the filter away again."""
    chip = page.locator(".chip")
    await link.press("Enter")  # a click could fall into an update
    await expect(chip).to_contain_text(words)
    await expect(row).to_have_count(1)
    await chip.press("Enter")
    await expect(chip).to_have_count(0)


async def pause_and_resume(page: Page, link: Locator) -> None:
    """By the page that the link leads to."""
    await link.click()
    await page.get_by_label("Why?").fill("it never ends")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_contain_text("Paused by admin")
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()


async def test_it_opens_only_with_the_token(page: Page, served: Site) -> None:
    """A wrong one is told at the field; signing out closes it again."""
    await page.goto(f"{served.url}/dashboard")
    await page.get_by_label("Token").fill("not the token")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("This is not the token")).to_be_visible()
    await expect(page.get_by_label("Token")).to_be_focused()
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(f"{served.url}/dashboard")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_the_link_to_the_content_is_no_token(page: Page, served: Site) -> None:
    """It is a fragment too."""
    await page.goto(f"{served.url}/dashboard/sign-in")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("#main$"))
    await expect(page.get_by_text("This is not the token")).to_have_count(0)


async def test_it_shows_what_runs_and_what_ran(page: Page, served: Site, tmp_path: Path) -> None:
    """Pushed as it happens: nobody reloads."""
    await open_dashboard(page, served)
    workers = page.get_by_role("region", name="Workers")
    await expect(workers).to_contain_text(re.compile(r"asyncio\s+0\s+4\s+\d"))
    await expect(workers).to_contain_text("now")
    running = page.locator(".tiles div", has_text="Running")
    await expect(running).to_contain_text("0 of 4")
    job_id = served.start_job("forms.until", path=str(tmp_path / "end"))
    await expect(running).to_contain_text("1 of 4")
    row = page.locator(f"tr[data-id='{job_id}']")
    await expect(row.locator(".state")).to_have_text("STARTED")
    took = row.locator("[data-label='Run time']")
    await expect(took).to_have_text(re.compile(r"^[1-9]\d* s"))
    bar = page.locator(f".lane .bar[data-id='{job_id}']")
    await expect(bar).to_contain_text("forms.until, STARTED")
    await expect(bar).to_have_attribute("href", re.compile(job_id))
    wider = f"""before => {{
        const bar = document.querySelector(".bar[data-id='{job_id}']");
        return bar.getBoundingClientRect().width > before ? bar.offsetWidth + 1 : 0;
    }}"""
    width = await (await page.wait_for_function(wider, arg=0)).json_value()
    await page.wait_for_function(wider, arg=width)
    lanes = page.get_by_role("region", name="The last minute")
    await lanes.get_by_role("link", name="task", exact=True).click()
    await expect(page.locator(".lane h3", has_text="forms.until")).to_contain_text("1 running")
    await expect(bar).to_have_attribute("title", "forms.until, STARTED")
    await page.reload()  # the address has kept it
    await expect(page.locator(".lane h3", has_text="forms.until")).to_be_visible()
    await expect(lanes.locator("[aria-current]")).to_have_text("task")
    await expect(page.get_by_role("region", name="Queues")).to_contain_text(
        re.compile(r"celery\s+0\s+0\s+1\s+0")
    )
    lane = page.locator(".lane h3 a", has_text="forms.until")
    await filter_by(page, workers.locator("th a"), row, words="worker celery@")
    await filter_by(page, lane, row, words="task forms.until")
    (tmp_path / "end").touch()
    await expect(row.locator(".state")).to_have_text("SUCCESS")
    await expect(bar).to_have_attribute("data-state", "SUCCESS")
    await expect(row).to_contain_text(re.compile(r"\d m?s"))
    await expect(page.get_by_role("region", name="Tasks in the last hour")).to_contain_text(
        "forms.until"
    )
    await expect(page.locator(".uplot")).to_have_count(2)
    legend = page.get_by_label("Jobs queued, finished and failed").locator(".u-legend")
    await expect(legend).to_have_text(re.compile(r"Time1 hour.*queued\d.*finished[1-9]"))
    await page.locator(".u-over").first.hover()
    await expect(legend).to_have_text(re.compile(r"Time\d+:\d\d:\d\d"))
    await page.mouse.move(0, 0)  # at rest again, it is not left without values
    await page.get_by_role("link", name="5 minutes").click()
    await expect(legend).to_have_text(re.compile(r"Time5 minutes.*queued\d.*finished[1-9]"))
    tasks = page.get_by_role("region", name="Tasks in the last hour")
    await tasks.get_by_role("link", name="forms.until", exact=True).click()
    await expect(page.locator(".spans").first).to_contain_text("Of the task forms.until")
    await expect(legend).to_have_text(re.compile(r"Time5 minutes.*finished[1-9]"))
    await pause_and_resume(page, tasks.get_by_role("link", name="Pause… forms.until"))


async def test_what_a_job_logs_comes_to_its_page(page: Page, served: Site, tmp_path: Path) -> None:
    """Line by line, at the levels that somebody wants to see."""
    await open_dashboard(page, served)
    job_id = served.start_job("forms.until", path=str(tmp_path / "end"))
    await page.goto(f"{served.url}/result/{job_id}")
    log = page.get_by_role("region", name="Log")
    rows = log.get_by_role("listitem")
    await expect(rows.filter(has_text="INFO forms took step 2")).to_have_count(1)
    await expect(rows.nth(9)).to_be_visible()
    await expect(page.locator(".timeline")).to_contain_text(re.compile(r"ran [1-9]\d* s so far"))
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} ", await rows.first.inner_text())
    await log.get_by_label("Least level").select_option("Warnings and errors")
    await expect(rows).to_have_count(0)
    (tmp_path / "end").touch()
    await expect(page.locator(".headline .state").first).to_have_text("SUCCESS")
    await log.get_by_label("Least level").select_option("All lines")
    await expect(rows.first).to_be_visible()


async def test_the_list_is_filtered_searched_and_sorted(page: Page, served: Site) -> None:
    """By state; by task, worker and id; by any column, both ways. The address keeps it."""
    failed = served.start_job("demo.fail")
    primes = served.start_job("demo.find_primes")
    await open_dashboard(page, served)
    rows = page.locator("table.jobs tbody tr")

    def row(job_id: str) -> Locator:
        return page.locator(f"table.jobs tr[data-id='{job_id}']")

    await expect(row(failed).locator(".state")).to_have_text("FAILURE")
    await expect(row(failed)).to_contain_text(re.compile(r"tasks/demo\.py:fail:\d"))
    await page.get_by_label("State").select_option("FAILURE")
    await expect(row(primes)).to_have_count(0)
    await expect(row(failed)).to_have_count(1)
    await page.get_by_label("State").select_option("")
    for words, one, other in (
        ("find_primes", primes, failed),
        (failed[:13], failed, primes),
        ("celery@ fail", failed, primes),
    ):
        await page.get_by_label("Search").fill(words)
        await expect(row(one)).to_have_count(1)
        await expect(row(other)).to_have_count(0)
    await page.get_by_label("Search").fill("nothing is called so")
    await expect(rows).to_have_text(re.compile("None of the .* fits"))
    await page.get_by_label("Search").fill("")
    table = page.locator("table.jobs")
    for column in ("Task", "State", "Queue", "Worker", "Queued", "Started", "Run time", "Id"):
        head = table.get_by_role("columnheader", name=column, exact=True)
        await head.get_by_role("link").click()
        first = await head.get_attribute("aria-sort")
        await head.get_by_role("link").click()
        assert {first, await head.get_attribute("aria-sort")} == {"ascending", "descending"}
    await table.get_by_role("columnheader", name="Id", exact=True).get_by_role("link").click()
    await expect(page).to_have_url(re.compile("sort=id"))
    await page.reload()
    await expect(table.get_by_role("columnheader", name="Id", exact=True)).to_have_attribute(
        "aria-sort", re.compile("ending")
    )
    shown = await rows.all()
    ids = [await each.get_attribute("data-id") or "" for each in shown]
    assert ids == sorted(ids, reverse=True)


async def test_rows_stay_under_the_mouse(page: Page, served: Site) -> None:
    """New ones are announced, and come when they are asked for; a filter is a click away."""
    first = served.start_job("demo.fail")
    await open_dashboard(page, served)
    row = page.locator(f"tr[data-id='{first}']")
    await expect(row.locator(".state")).to_have_text("FAILURE")
    await row.locator(".id").hover()
    before = await top_of(row)
    others = [served.start_job("demo.fail") for _ in range(2)]
    announced = page.get_by_role("button", name="2 new")
    await expect(announced).to_be_visible()
    # What grows above is scrolled away, which the browser does in whole pixels.
    assert await top_of(row) == pytest.approx(before, abs=1)
    await announced.click()
    for job_id in others:
        await expect(page.locator(f"tr[data-id='{job_id}']")).to_have_count(1)
    await row.locator(".why a").click()
    await expect(page).to_have_url(re.compile("failure="))
    await expect(page.locator("table.jobs .state")).not_to_contain_text(["SUCCESS"])
    await page.get_by_role("link", name="Run again…").click()
    await expect(
        page.get_by_role("heading", name=re.compile(r"Run \d+ jobs again\?"))
    ).to_be_visible()
    await page.get_by_role("link", name="Back to the jobs").click()
    await page.locator(".chip").click()
    await expect(page).not_to_have_url(re.compile("failure="))


async def test_it_is_readable_without_scripts(browser: Browser, served: Site) -> None:
    """The list's links and its filter are links and a form."""
    context = await browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    await plain.goto(f"{served.url}/dashboard")
    await plain.get_by_label("Token").fill(TOKEN)
    await plain.get_by_role("button", name="Sign in").click()
    job_id = served.start_job("demo.find_primes")
    await plain.get_by_label("Search").fill(job_id)
    await plain.get_by_role("button", name="Filter").click()
    # The page refreshes itself.
    row = plain.locator("table.jobs tbody tr")
    await expect(row).to_have_attribute("data-id", job_id)
    await context.close()


async def test_it_says_in_words_that_no_worker_is_running(page: Page, own_site: Site) -> None:
    """Whether the worker left or was killed; and shows when it was last seen."""
    await open_dashboard(page, own_site)
    words = page.get_by_text("No worker is running.")
    await expect(page.get_by_role("region", name="Workers")).to_contain_text("now")
    await expect(words).to_have_count(0)
    own_site.worker.kill()
    await expect(words).to_be_visible(timeout=10_000)
    await expect(page.get_by_role("region", name="Workers")).to_contain_text(
        re.compile(r"gone.*\d s ago", re.DOTALL)
    )
    with site_worker(own_site.valkey) as worker:
        await expect(words).to_have_count(0)
        worker.stop()
        await expect(words).to_be_visible()


async def test_dead_letters_are_read_replayed_and_dropped(page: Page, served: Site) -> None:
    """A replayed job runs again, and what it was is forgotten."""
    ids = ["5e11c7e5-0000-4000-8000-000000000001", "5e11c7e5-0000-4000-8000-000000000002"]
    with served.valkey.client() as redis:
        for job_id in ids:
            redis.lpush(DEAD, dead_letter(job_id, "forms.secret", ["<b>again</b>"]))
            record = {"status": "FAILURE", "result": {"exc_type": "DeadLetterError"}}
            redis.set(f"celery-task-meta-{job_id}", json.dumps(record), ex=60)
    await open_dashboard(page, served)
    await page.get_by_role("link", name="read them").click()
    letters = page.locator(".letter")
    await expect(letters).to_have_count(2)
    await expect(letters.first).to_contain_text("forms.secret")
    await expect(letters.first).to_contain_text("Delivered 5 times without an end.")
    await letters.first.get_by_text("Message").click()
    await expect(letters.first.locator("pre")).to_contain_text(ids[1])
    await letters.filter(has_text=ids[0]).get_by_role("button", name="Replay").click()
    await expect(page.get_by_text("It is back in its queue.")).to_be_visible()
    await expect(letters).to_have_count(1)
    await letters.get_by_text("Drop…").click()
    await letters.get_by_role("button", name="Drop it").click()
    await expect(page.get_by_text("There are none.")).to_be_visible()
    await page.goto(f"{served.url}/result/{ids[0]}")
    await expect(page.locator("pre.value")).to_have_text('"<B>AGAIN</B>"')
