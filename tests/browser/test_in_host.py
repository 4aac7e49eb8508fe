"""Our pages inside a template of the host's."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.site import TOKEN
from tests.support.valkey import Valkey
from tests.support.web import Web

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_they_work_there_and_leave_its_looks_alone(page: Page, tmp_path: Path) -> None:
    """Scripts find what they need under the prefix; rules of the host's win over ours."""
    with (
        Valkey(tmp_path) as valkey,
        Web(valkey.url, "tests.support.in_host_app:app", SERVICE_ADMIN_TOKEN=TOKEN) as web,
    ):
        web.wait_until_ready()
        await page.goto(f"{web.url}/jobs/")
        await page.get_by_label("item").fill("tea")
        await page.get_by_role("button", name="Start").click()
        card = page.locator(".card")
        await expect(card.locator(".state")).to_have_text("QUEUED")
        await card.get_by_role("button", name="Cancel").click()
        await expect(card.locator(".state")).to_have_text("REVOKED")
        await expect(page.get_by_text("the host's header")).to_have_css("color", "rgb(1, 2, 3)")
        await page.goto(f"{web.url}/jobs/dashboard/sign-in#token={TOKEN}")
        await expect(page.locator("#charts canvas")).to_have_count(2)
        await expect(page.get_by_text("its foot")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(re.compile("/jobs/$"))
