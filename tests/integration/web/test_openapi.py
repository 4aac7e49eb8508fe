"""The OpenAPI document says what the server does: schemathesis holds one against the other."""

import sys
from pathlib import Path

import pytest

from tests.integration.access.test_routes import store_jobs
from tests.support.process import Process
from tests.support.schemathesis_hooks import HIDDEN
from tests.support.valkey import Valkey
from tests.support.web import Web


@pytest.mark.parametrize("user", [None, "ada"])
def test_the_server_keeps_to_its_document(
    redis_url: str, valkey: Valkey, tmp_path: Path, user: str | None
) -> None:
    """For whatever input the document allows, and what it does not; and shows nobody else's job."""
    identities = {"SERVICE_USER_HEADER": "X-User", "SERVICE_TRUSTED_PROXIES": "127.0.0.1"}
    with valkey.client() as redis:
        store_jobs(redis, {"job-of-ada": ("ada", "hers"), "job-of-eve": ("eve", HIDDEN)})
    with Web(redis_url, **(identities if user else {})) as web:
        web.wait_until_ready()
        command: list[str | Path] = [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{web.url}/openapi.json"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "5"),
            # A key that is used again with other arguments is refused, and no schema can say so.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--no-color", "--seed", "1"),
            *("--request-timeout", "10", "--generation-database", "none"),
            *(("--header", f"X-User: {user}") if user else ()),
        ]
        env = {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks"}
        with Process(command, cwd=tmp_path, env=env, name="schemathesis") as tool:
            code = tool.wait(timeout=50)
            assert code == 0, tool.output[-6000:]
        assert "A request could not be answered" not in web.output, web.tail
