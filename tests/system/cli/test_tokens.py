"""`service tokens`: makes, lists and revokes API tokens."""

import json
import os
import pwd
from typing import Any

import pytest
from click.testing import CliRunner, Result
from quart.cli import ScriptInfo
from redis import Redis

from service import create_app
from service.cli.main import service


def tokens(redis_url: str, *arguments: str) -> Result:
    """What the command prints, and how it ends."""
    info = ScriptInfo(create_app=lambda: create_app({"SERVICE_REDIS_URL": redis_url}))
    return CliRunner().invoke(service, ["tokens", *arguments], obj=info)


def test_a_token_is_made_listed_and_revoked(redis_url: str) -> None:
    """It is printed once; what operators do is in the audit."""
    made = tokens(redis_url, "create", "ci", "--scope", "start:mail.*", "--expires", "90d")
    text = made.stdout.strip()
    assert text.startswith("sjt_")
    assert "already" in tokens(redis_url, "create", "ci", "--scope", "cancel").output
    listed = tokens(redis_url, "list").stdout
    assert "ci  start:mail.*  owner token:ci  until 20" in listed
    assert "never used" in listed
    assert text not in listed
    assert tokens(redis_url, "revoke", "ci").stdout == "ci is revoked.\n"
    assert tokens(redis_url, "list").stdout == ""
    assert tokens(redis_url, "revoke", "ci").exit_code == 1
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        entries: Any = redis.xrange("service:audit")
    lines = [json.loads(fields["line"]) for _, fields in entries]
    user = pwd.getpwuid(os.getuid()).pw_name
    assert [tuple(line[name] for name in ("who", "act", "what", "address")) for line in lines] == [
        (user, "create token", "ci", "the command line"),
        (user, "revoke token", "ci", "the command line"),
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--scope", "everything"], "start:mail.*"),
        (["--scope", "cancel", "--expires", "soon"], "90d"),
        ([], "--scope"),
    ],
)
def test_a_mistake_is_told(redis_url: str, arguments: list[str], complaint: str) -> None:
    """And no token is made."""
    ended = tokens(redis_url, "create", "ci", *arguments)
    assert ended.exit_code == 2
    assert complaint in ended.output
    assert tokens(redis_url, "list").stdout == ""
