"""The identities that an app need not make: tokens, signed links, a proxy's header."""

import re
import time
from typing import Any

import pytest
from redis import Redis

from service import signed_link
from service.access.access import access_of
from service.access.links import opened_by
from service.access.tokens import ApiTokenError
from service.errors import ConfigurationError
from tests.integration.access.test_owners import PAGE, STREAM, seen, start, tasks
from tests.integration.access.test_starting import identify, serving
from tests.integration.access.test_starting import tasks as guarded

KEYS = ("a-first-secret-for-links", "a-second-secret-for-links")


def bearer(text: str) -> dict[str, str]:
    """The header that has a token."""
    return {"Authorization": f"Bearer {text}"}


async def test_a_token_does_what_its_scopes_say(redis_url: str) -> None:
    """And sees what it has started, and nothing else."""
    async with serving(redis_url, identify=identify, tasks=[tasks, guarded]) as client:
        tokens = access_of(client.app).tokens
        narrow = bearer(await tokens.create("narrow", ("start:owned.*",), seconds=60))
        wide = bearer(await tokens.create("wide", ("start:*", "cancel"), seconds=None))
        admin = bearer(await tokens.create("root", ("admin",), seconds=60))
        listed = await (await client.get("/tasks", headers=narrow)).get_json()
        assert [task["name"] for task in listed["tasks"]] == ["owned.note"]
        refused = await client.post("/tasks/access.for_all", json={}, headers=narrow)
        assert refused.status_code == 404
        job_id = await start(client, "", **narrow)
        for headers, sees, cancels in ((narrow, 200, 403), (wide, 404, 404), (admin, 200, 200)):
            assert (await seen(client, "", "GET", f"/result/{job_id}", headers))[0] == sees
            assert (await seen(client, "", "DELETE", f"/result/{job_id}", headers))[0] == cancels
        job_id = await start(client, "", **wide)
        assert (await seen(client, "", "DELETE", f"/result/{job_id}", wide))[0] == 200


async def test_a_token_is_stored_as_a_hash_and_ends(redis_url: str) -> None:
    """By its time, or by being revoked; its last use is seen."""
    async with serving(redis_url, tasks=[tasks]) as client:
        tokens = access_of(client.app).tokens
        text = await tokens.create("ci", ("start:*",), seconds=60, owner="ada")
        brief = await tokens.create("brief", ("start:*",), seconds=0.0)
        with Redis.from_url(redis_url, decode_responses=True) as redis:
            stored: Any = redis.hgetall("service:tokens")
            assert text not in str(stored)
            assert text.removeprefix("sjt_") not in str(stored)
        assert [(token.name, used) for token, used in await tokens.all()] == [
            *(("brief", None), ("ci", None))
        ]
        await start(client, "", **bearer(text))
        (_, used) = (await tokens.all())[1]
        assert used is not None
        assert abs(used - time.time()) < 60
        with pytest.raises(ApiTokenError, match="already"):
            await tokens.create("ci", ("start:*",), seconds=60)
        await tokens.revoke("ci")
        with pytest.raises(ApiTokenError, match="service tokens list"):
            await tokens.revoke("ci")
    async with serving(redis_url, tasks=[tasks]) as client:  # the other has looked it up before
        for wrong in (text, brief, "sjt_made-up"):
            answer = await client.get("/tasks", headers=bearer(wrong))
            assert answer.status_code == 401
            assert "invalid_token" in answer.headers["WWW-Authenticate"]
        assert (await client.get("/tasks", headers=bearer("of-another-kind"))).status_code == 200


@pytest.mark.parametrize("scope", ["start:", "start", "everything", ""])
async def test_a_scope_that_is_none_is_refused(redis_url: str, scope: str) -> None:
    """It would open nothing, or more than was meant."""
    async with serving(redis_url) as client:
        with pytest.raises(ValueError, match="no scope"):
            await access_of(client.app).tokens.create("x", (scope,), seconds=60)


async def test_a_signed_link_shows_one_job_until_its_end(redis_url: str) -> None:
    """As JSON, page and stream, and its cards, but it cancels nothing."""
    config = {"SERVICE_REDIS_URL": redis_url, "SERVICE_SIGNING_KEYS": ",".join(KEYS)}
    async with serving(redis_url, identify=identify, tasks=[tasks], config=config) as client:
        hers, other = await start(client, "ada"), await start(client, "ada")
        async with client.app.test_request_context("/"):
            link = signed_link(hers, external=False)
            ended = signed_link(hers, seconds=-1, external=False)
        proof = link.partition("?")[2]
        for headers in ({}, PAGE):
            assert (await seen(client, "", "GET", link, headers))[0] == 200
        assert hers in (await seen(client, "bob", "GET", f"/jobs?id={hers}&{proof}", {}))[2]
        async with client.request(f"/result/{hers}/events?{proof}", headers=STREAM) as stream:
            await stream.send_complete()
            assert b"retry" in await stream.receive()
            assert stream.status_code == 200
            await stream.disconnect()
        for address in (f"/result/{other}?{proof}", ended, f"{link}x"):
            assert (await seen(client, "", "GET", address, {}))[0] == 404
        assert (await seen(client, "", "DELETE", link, {}))[0] == 403
    async with serving(redis_url) as client, client.app.test_request_context("/"):
        with pytest.raises(ConfigurationError, match="SERVICE_SIGNING_KEYS"):
            signed_link(hers)


async def test_keys_of_links_are_replaced_one_by_one(redis_url: str) -> None:
    """The first signs; a key that is left out makes its links worth nothing."""
    config = {"SERVICE_REDIS_URL": redis_url, "SERVICE_SIGNING_KEYS": KEYS[0]}
    async with serving(redis_url, config=config) as client, client.app.test_request_context("/"):
        text = signed_link("one", external=False).partition("t=")[2]
    assert opened_by([text], KEYS) == opened_by([text], KEYS[::-1]) == {"one"}
    assert opened_by([text], KEYS[1:]) == frozenset()
    assert opened_by(["", ".", "é", "W10.x"], KEYS) == frozenset()


async def test_what_a_trusted_proxy_says_of_the_user_counts_and_nobody_elses(
    redis_url: str,
) -> None:
    """A header that was forged, or that is there twice, is as if it were not there."""
    config = {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_USER_HEADER": "X-Forwarded-User",
        "SERVICE_ROLES_HEADER": "X-Forwarded-Groups",
    }
    user = {"X-Forwarded-User": "ada"}
    trusted = {**config, "SERVICE_TRUSTED_PROXIES": "127.0.0.1"}
    peer: Any = {"scope_base": {"client": ("127.0.0.1", 1)}}
    async with serving(redis_url, tasks=[tasks], config=trusted) as client:
        body = {"text": "secret"}
        answer = await client.post("/tasks/owned.note", json=body, headers=user, **peer)
        address = (await answer.get_json())["result_url"]
        admin = {"X-Forwarded-User": "eve", "X-Forwarded-Groups": "staff, admin"}
        for headers, status in (
            *((user, 200), (admin, 200), ({}, 404), ({"X-Forwarded-User": "bob"}, 404)),
            ([("X-Forwarded-User", "ada"), ("X-Forwarded-User", "ada")], 404),
        ):
            found = await client.get(address, headers=headers, **peer)
            assert found.status_code == status
        elsewhere: Any = {"scope_base": {"client": ("192.0.2.1", 1)}}
        for headers in (user, admin):
            assert (await client.get(address, headers=headers, **elsewhere)).status_code == 404
        assert (await client.get("/dashboard", headers=admin, **peer)).status_code == 200
        assert (await client.get("/dashboard", headers=admin, **elsewhere)).status_code == 403


async def test_what_operators_do_is_in_the_audit(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who, what, when, from where: on a page for administrators, and in the log."""
    caplog.set_level("INFO", "service.audit")
    token = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
    config = {"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": token}
    async with serving(redis_url, identify=identify, tasks=[tasks], config=config) as client:
        await client.post("/dashboard/sign-in", form={"token": "<b>wrong"})
        signed_in = await client.post("/dashboard/sign-in", form={"token": token})
        assert signed_in.status_code == 303
        job_id = await start(client, "ada")
        await seen(client, "root admin", "DELETE", f"/result/{job_id}", {})
        own = await start(client, "root admin")
        await seen(client, "root admin", "DELETE", f"/result/{own}", {})
        page = (await seen(client, "root admin", "GET", "/dashboard/audit", PAGE))[2]
        found = re.findall("<tr>" + "<td[^>]*>(.*?)</td>" * 4, page)
        rows = [row[1:] for row in found]  # without the time
        assert rows == [
            ("root", "cancel", f"job {job_id}"),
            ("admin", "sign-in", "\N{EN DASH}"),
            ("unknown", "refused sign-in", "\N{EN DASH}"),
        ]
        assert "root: cancel job" in caplog.text
        assert token not in caplog.text
        client.cookie_jar.clear()
        for user, status in (("eve operator", 403), ("eve viewer", 403), ("ada", 303)):
            assert (await seen(client, user, "GET", "/dashboard/audit", PAGE))[0] == status


async def test_roles_open_the_dashboard_without_a_token(redis_url: str) -> None:
    """A viewer looks, an operator acts; it is there where callers are known."""
    async with serving(redis_url, identify=identify) as client:
        drop = "/dashboard/dead-letters/one/drop"
        for user, looks, acts in (
            *(("", 403, 403), ("ada", 403, 403), ("v viewer", 200, 403)),
            *(("o operator", 200, 404), ("a admin", 200, 404)),
        ):
            headers = {"X-Test-User": user}
            assert (await client.get("/dashboard", headers=headers)).status_code == looks
            assert (await client.post(drop, headers=headers)).status_code == acts
        assert (await client.get("/dashboard/sign-in")).status_code == 404
