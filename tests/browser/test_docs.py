"""The page of the interface: its examples run, and a task can be tried on it."""

import asyncio
import shlex
import sys

import pytest
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")

TASK = "forms.register"


async def test_the_examples_run_and_a_task_can_be_tried(page: Page, site: str) -> None:
    """The language is chosen once, for all tasks."""
    await page.goto(f"{site}/docs")
    await page.get_by_role("navigation", name="Contents").get_by_text(TASK).click()
    entry = page.get_by_role("article", name=TASK, exact=True)
    await expect(entry).to_be_in_viewport()
    shown = entry.locator(".example pre:visible")
    curl = await shown.inner_text()
    await entry.get_by_role("radio", name="Python").check()
    python = await shown.inner_text()
    await page.reload()
    await expect(
        page.get_by_role("article", name="forms.big").get_by_role("radio", name="Python")
    ).to_be_checked()
    await (
        page.get_by_role("article", name="forms.big")
        .get_by_role("radio", name="JavaScript")
        .check()
    )
    script = await shown.inner_text()

    program, address, option, body = shlex.split(
        curl.replace("\\\n", "")
    )  # there may be no curl here
    assert (program, option) == ("curl", "--json")
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    answer = await page.request.post(address, data=body, headers=headers)
    assert answer.status == 202
    assert await output_of(sys.executable, "-c", python) == "name, grown-up, of street 2 None\n"
    result = await page.evaluate(f"async () => {{ {script}; return job.result; }}")
    assert result == "name, grown-up, of street 2"

    await entry.get_by_text("Try it").click()
    form = entry.get_by_role("form", name=TASK)
    await form.get_by_label("guest.name").fill("Ada")
    await form.get_by_label("guest.deposit").fill("1.50")
    await form.get_by_label("guest.address.street").fill("Mill Lane")
    await form.get_by_label("guest.address.number").fill("1")
    await form.get_by_role("button", name="Start").click()
    answers = entry.locator(".answers")
    await expect(answers).to_contain_text('"result": "Ada, grown-up, of Mill Lane 2"')
    await expect(answers.get_by_role("link", name="The job's page")).to_be_visible()
    await page.goto(site)
    await expect(page.locator(".card", has_text="Mill Lane").first).to_be_visible()


async def output_of(*command: str) -> str:
    """What a program writes that ends well."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()
