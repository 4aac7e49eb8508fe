"""Starts jobs by the forms of the front page, as a visitor does."""

from playwright.async_api import Locator, Page, expect


async def form_of(page: Page, task: str) -> Locator:
    """The form of a task, opened."""
    form = page.get_by_role("form", name=task, exact=True)
    if not await form.is_visible():
        await page.locator("summary", has_text=task).click()
    return form


def first_card(page: Page) -> Locator:
    """The card of the newest job."""
    return page.locator(".card").first


async def start(page: Page, task: str, **values: str) -> None:
    """Fill in a task's form, start the job, and wait for its card."""
    form = await form_of(page, task)
    for name, value in values.items():
        await form.get_by_label(name).fill(value)
    await form.get_by_role("button", name="Start").click()
    await expect(page.locator(f".card[data-task='{task}']")).to_be_visible()
