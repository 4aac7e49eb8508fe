"""The two programs of service/docs/operating.md, run as they are written."""

import os
import re
import shlex
import sys
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.process import ROOT, Process
from tests.support.wait import wait_until

OPERATING = (ROOT / "service/docs/operating.md").read_text()


def commands() -> dict[str, list[str]]:
    """The words of each command of the block that starts the two processes, by its program."""
    (block,) = [b for b in re.findall(r"```sh\n(.*?)```", OPERATING, re.DOTALL) if "celery -A" in b]
    return {words[0]: words for words in map(shlex.split, block.splitlines())}


def test_the_two_programs_run_a_job(redis_url: str) -> None:
    """As written, but for the addresses: a curl of `/` and of the result's address shows 3."""
    words = commands()
    assert words["export"][1].startswith("SERVICE_REDIS_URL=")
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    env = {"SERVICE_REDIS_URL": redis_url, "PATH": path}
    bind = f"127.0.0.1:{free_port()}"
    with (
        Process([str(scripts / "celery"), *words["celery"][1:]], env=env) as worker,
        Process(
            [str(scripts / "hypercorn"), *words["hypercorn"][1:], "--bind", bind], env=env
        ) as web,
        httpx.Client(base_url=f"http://{bind}") as client,
    ):
        web.wait_for_output("Running on")
        greeting = client.get("/").json()
        assert greeting["message"] == "Hello, world!"
        worker.wait_for_output(r"ready\.")
        result = wait_until(
            lambda: client.get(greeting["result_url"]).json()["result"], description="a result"
        )
        assert result == 3
        worker.wait_for_output(r"1 \+ 2 = 3")
        worker.wait_for_output('TEST_FOR_APP_CONTEXT is "the app\'s configuration"')
        assert worker.stop() == 0
        assert web.stop() == 0
