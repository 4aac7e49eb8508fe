"""`service check` names what is wrong, and with --production what is missing to go public."""

from typing import Any

import pytest
from click.testing import CliRunner, Result
from quart import Quart
from quart.cli import ScriptInfo

from service import Jobs, TaskBlueprint, create_app
from service.cli.check import gaps
from service.cli.main import service

TOKEN = "the-admin-token-of-a-test"  # noqa: S105  of an app that serves nobody
SAFE = {
    "SERVICE_ADMIN_TOKEN": TOKEN,
    "SERVICE_REDIS_URL": "rediss://web:secret-of-a-test@redis.example:6380/0",
    "SERVICE_TRUSTED_HOSTS": "jobs.example",
    "SERVICE_TRUSTED_PROXIES": "10.0.0.0/8",
    "SERVICE_CELERY__WORKER_ENABLE_REMOTE_CONTROL": False,
}


def found(**changes: Any) -> list[str]:
    return [text for text in gaps(create_app({**SAFE, **changes})) if "demonstration" not in text]


def test_each_gap_is_named_by_what_closes_it() -> None:
    """Nothing else is said, and no password."""
    assert found() == []
    for name, value, word in (
        ("SERVICE_TRUSTED_HOSTS", "", "SERVICE_TRUSTED_HOSTS"),
        ("SERVICE_TRUSTED_PROXIES", "", "SERVICE_TRUSTED_PROXIES"),
        ("SERVICE_HSTS", "0", "SERVICE_HSTS"),
        ("SERVICE_LIMITS", "starts=off,sign-ins=off", "starts, sign-ins"),
        ("SERVICE_SIGNING_KEYS", f"another-secret-of-a-test,{TOKEN}", "SERVICE_SIGNING_KEYS"),
        ("SERVICE_CELERY__WORKER_ENABLE_REMOTE_CONTROL", True, "remote control"),
        ("SERVICE_REDIS_URL", "rediss://redis.example:6380/0", "password"),
        ("SERVICE_REDIS_URL", "rediss://:secret-of-a-test@redis.example:6380/0", "user of its own"),
        ("SERVICE_REDIS_URL", "redis://web:secret-of-a-test@redis.example/0", "rediss://"),
    ):
        (text,) = found(**{name: value})
        assert word in text
        assert "secret-of-a-test" not in text
    assert found(SERVICE_REDIS_URL="redis://web:secret-of-a-test@127.0.0.1/0") == []
    assert any("demo.my_add" in text or "demo." in text for text in gaps(create_app(SAFE)))


@pytest.mark.parametrize("allow", ["staff", lambda caller: True, None])
def test_jobs_of_nobody_are_a_gap_where_only_users_start_tasks(allow: Any) -> None:
    """Anyone who starts a task and is unknown needs the id of the job, and nothing else."""
    tasks = TaskBlueprint("own")
    tasks.task(name="note", public=allow is None, allow=allow)(lambda: None)
    safe = {**SAFE, "SERVICE_USER_HEADER": "X-Forwarded-User"}
    for access, gap in (("id", allow == "staff"), ("owner", False)):
        app = Quart(__name__)
        Jobs(app, tasks=[tasks], config={**safe, "SERVICE_RESULT_ACCESS": access})
        assert any("SERVICE_RESULT_ACCESS" in text for text in gaps(app)) is gap


def test_the_command_fails_where_something_is_missing(redis_url: str) -> None:
    """So that a deployment can stop there."""
    app = create_app({"SERVICE_REDIS_URL": redis_url})

    def run(*options: str) -> Result:
        info = ScriptInfo(create_app=lambda: app)
        return CliRunner().invoke(service, ["check", *options], obj=info)

    public = run("--production")
    assert public.exit_code == 1
    assert "SERVICE_TRUSTED_HOSTS" in public.output
    plain = run().output
    assert plain.startswith(("- ", "Nothing was found."))
    assert "SERVICE_TRUSTED_HOSTS" not in plain
