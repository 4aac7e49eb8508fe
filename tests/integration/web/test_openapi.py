"""The OpenAPI document says what the server does: schemathesis holds one against the other."""

import sys
from pathlib import Path

from tests.support.process import Process
from tests.support.web import Web


def test_the_server_keeps_to_its_document(redis_url: str, tmp_path: Path) -> None:
    """For whatever input the document allows, and for what it does not."""
    with Web(redis_url) as web:
        web.wait_until_ready()
        command: list[str | Path] = [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{web.url}/openapi.json"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "10"),
            # A key that is used again with other arguments is refused, and no schema can say so.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--no-color", "--seed", "1"),
            *("--request-timeout", "10", "--generation-database", "none"),
        ]
        with Process(command, cwd=tmp_path, name="schemathesis") as tool:
            code = tool.wait(timeout=50)
            assert code == 0, tool.output[-6000:]
        assert "A request could not be answered" not in web.output, web.tail
