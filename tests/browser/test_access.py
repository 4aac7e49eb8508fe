"""Two users in two browsers, an administrator, a proxy and a token: each sees exactly theirs."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.forms import first_card, form_of
from tests.support.process import ROOT
from tests.system.test_guides import program, result_of, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN = "the-admin-token-of-this-test"  # noqa: S105  of an app that lives for a test
ENV = {
    "QUART_SECRET_KEY": "a-secret-for-this-test",
    "QUART_QUART_AUTH_COOKIE_SECURE": "false",
    "SERVICE_ADMIN_TOKEN": TOKEN,
    "SERVICE_TRUSTED_PROXIES": "127.0.0.1",
    "SERVICE_USER_HEADER": "X-Forwarded-User",
}


def make_token(folder: Path, redis_url: str) -> str:
    """What `service tokens create` prints."""
    made = subprocess.run(
        [sys.executable, "-m", "service", "tokens", "create", "ci", "--scope", "start:shop.note"],
        cwd=folder,
        env={**ENV, "SERVICE_REDIS_URL": redis_url, "PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


async def logged_in(browser: Browser, base: str, user: str, password: str) -> Page:
    """A browser of its own, in which this user has a session."""
    page = await (await browser.new_context(base_url=base)).new_page()
    await page.goto("/log-in")
    await page.fill("[name=user]", user)
    await page.fill("[name=password]", password)
    await page.click("button")
    await page.wait_for_url("**/jobs/")
    return page


async def start_in(page: Page, text: str) -> str:
    """Start a job by the form of the front page; the address of its page."""
    form = await form_of(page, "shop.note")
    await form.get_by_label("text").fill(text)
    await form.get_by_role("button", name="Start").click()
    card = first_card(page)
    await expect(card.locator(".value")).to_have_text(f'"noted {text}"')
    return str(await card.locator("a.id").get_attribute("href"))


async def sees(page: Page, address: str) -> bool:
    """Whether the browser is shown the job; else it is shown that there is none."""
    answer = await page.goto(address)
    assert answer is not None
    assert answer.status in {200, 404}
    return answer.status == 200


async def test_each_sees_exactly_theirs(browser: Browser, tmp_path: Path, redis_url: str) -> None:
    """The program of the guide, as its reader copies it."""
    program("security.md", "Users with a session", tmp_path)
    with running(tmp_path, redis_url, env=ENV) as client:
        base = str(client.base_url)
        ada = await logged_in(browser, base, "ada", "countess")
        bob = await logged_in(browser, base, "bob", "builder")
        admin = await (await browser.new_context(base_url=base)).new_page()
        await admin.goto(f"/jobs/dashboard/sign-in#token={TOKEN}")
        await admin.wait_for_url("**/jobs/dashboard")
        assert await ada.get_by_text("shop.close_shop").count() > 0
        assert await bob.get_by_text("shop.close_shop").count() == 0
        proxy = {"X-Forwarded-User": "eve", "X-Forwarded-For": "192.0.2.7"}
        token = {"Authorization": f"Bearer {make_token(tmp_path, redis_url)}"}
        jobs = {"ada": await start_in(ada, "of ada"), "bob": await start_in(bob, "of bob")}
        for who, headers in (("proxy", proxy), ("token", token)):
            started = client.post("/jobs/tasks/shop.note", json={"text": who}, headers=headers)
            assert started.status_code == 202, started.text
            jobs[who] = started.json()["result_url"]
            with httpx.Client(base_url=base, headers=headers) as own:
                assert result_of(own, jobs[who]) == f"noted {who}"
        for who, address in jobs.items():
            assert await sees(ada, address) is (who == "ada")
            assert await sees(bob, address) is (who == "bob")
            assert await sees(admin, address)
            for asking, headers in (("proxy", proxy), ("token", token), ("nobody", {})):
                status = client.get(address, headers=headers).status_code
                assert status == (200 if asking == who else 404), (asking, who)
        refused = client.post("/jobs/tasks/shop.close_shop", json={}, headers=token)
        assert refused.status_code == 404
        for page in (ada, bob, admin):
            await page.context.close()
