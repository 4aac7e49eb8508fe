"""What .ci/smoke runs in the bare environment; needs nothing but Python.

Arguments: a folder with README.md and the environment `bare`, and which programs to try.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
DEADLINE = time.monotonic() + 60
LINES = 20


def ask(url: str, data: object = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def result_at(url: str) -> Any:
    while not (result := ask(f"{url}?wait=5"))["ready"]:
        assert time.monotonic() < DEADLINE, result
    return result["result"]


@contextmanager
def service_dev(folder: Path, **env: str) -> Iterator[str]:
    """`service dev` in this folder, on a port of its own; the address that it prints."""
    command = [BIN / "service", "dev", "--bind", "127.0.0.1:0", "--concurrency", "2"]
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
    ) as dev:
        assert dev.stdout is not None
        try:
            seen = ""
            for line in dev.stdout:
                seen += line
                if found := re.match(r"Serving on (\S+)", line):
                    break
            else:
                raise AssertionError(seen)
            yield found[1]
        finally:
            dev.terminate()
            dev.stdout.read()


def program(root: Path, heading: str) -> Path:
    """A folder with the files of one of README's programs, and nothing else."""
    readme = (root / "README.md").read_text()
    (section,) = re.findall(rf"^### {heading}\n(.*?)^##", readme, re.DOTALL | re.MULTILINE)
    folder = root / heading.replace(" ", "-")
    folder.mkdir()
    files = re.findall(r"```python\n# (\S+)\n(.*?)```", section, re.DOTALL)
    lines = 0
    for name, code in files:
        (folder / name).write_text(code)
        lines += sum(1 for line in code.splitlines() if line.strip())
    assert 0 < lines < LINES, f"{heading}: {lines} lines"
    return folder


def try_bare(root: Path) -> None:
    subprocess.run([sys.executable, "-c", "import service"], check=True, cwd=root)
    put = {str(file).split("/")[0] for file in files("quart-celery-service") or ()}
    put -= {".."}  # the command, in the folder of the interpreter
    assert put == {"service", f"quart_celery_service-{version('quart-celery-service')}.dist-info"}
    empty = root / "empty"
    empty.mkdir()
    with service_dev(empty) as url:
        assert result_at(url + ask(f"{url}/")["result_url"]) == 3
    hello = program(root, "Try it")
    with service_dev(hello, SERVICE_TASK_MODULES="hello") as url:
        job = ask(f"{url}/tasks/hello.greet", {"name": "Ada", "seconds": 1})
        assert result_at(url + job["result_url"]) == "Hello, Ada!"
    own = program(root, "Put it into your Quart app")
    sign_up(own)
    told = subprocess.run(
        [BIN / "celery", "-A", "worker_entry", "worker", "--help"],
        cwd=own,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--concurrency" in told.stdout


def sign_up(folder: Path) -> None:
    """A route of the host's own starts a job, which is followed under the prefix."""
    with service_dev(folder) as url:
        assert result_at(url + ask(f"{url}/sign-up/ada", {})["follow"]) == "sent to ada"


def try_testing(root: Path) -> None:
    """The first tests of the guide, with the pytest plugin of the wheel."""
    (docs,) = (root / "bare/lib").glob("python*/site-packages/service/docs")
    guide = (docs / "testing.md").read_text()
    folder = root / "tested"
    for name, code in re.findall(r"```(?:python|ini)\n# (\S+)\n(.*?)```", guide, re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    subprocess.run([sys.executable, "-m", "pytest", "-q"], check=True, cwd=folder)


def main(root: Path, which: str) -> None:
    if which == "bare":
        try_bare(root)
    elif which == "testing":
        try_testing(root)
    else:
        sign_up(program(root, "Use it from FastAPI"))


main(Path(sys.argv[1]), sys.argv[2])
