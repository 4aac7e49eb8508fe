"""Typical mistakes are told in a sentence, whichever command is run."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.process import Process

COMMANDS = {
    "dev": ("service", "dev", "--bind", "127.0.0.1:0"),
    "worker": ("celery", "-A", "worker_entry", "worker"),
    "web": ("hypercorn", "asgi:app", "--bind", "127.0.0.1:0", "--workers", "0"),
}
OF_MINE = {"SERVICE_TASK_MODULES": "mine"}
TASKS = """
from service import TaskBlueprint

tasks = TaskBlueprint("mine")

@tasks.task
def send() -> None: ...
"""


def told(command: str, folder: Path, env: dict[str, str]) -> str:
    """What the command, run in this folder, says before it ends with 1."""
    program, *arguments = COMMANDS[command]
    script = shutil.which(program, path=str(Path(sys.executable).parent))
    start = [script] if script else [sys.executable, "-m", program]
    with Process([*start, *arguments], cwd=folder, env=env, name=command) as process:
        assert process.wait() == 1
        assert "Traceback" not in process.output
        return process.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("more", "env", "said"),
    [
        ("", {"SERVICE_TASK_MODULES": "no.such"}, "SERVICE_TASK_MODULES names 'no.such'"),
        ("", {"SERVICE_CELERY__TASK_ACKS_LATELY": "1"}, "is not a setting of Celery."),
        ("@tasks.task\ndef send() -> None: ...\n", OF_MINE, "mine.py:6) and by mine.send"),
        ("@tasks.task(time_limt=3)\ndef call() -> None: ...\n", OF_MINE, "'time_limt' is not"),
        (
            "tasks = None",
            OF_MINE,
            "names 'mine', which has neither a TaskBlueprint nor a task of Celery's in it.",
        ),
        ("raise SystemExit", OF_MINE, "names 'mine', which ends the process when it is imported"),
    ],
    ids=["module", "setting", "duplicate", "option", "no blueprint", "exit"],
)
def test_a_mistake_is_told_in_a_sentence(
    command: str, more: str, env: dict[str, str], said: str, tmp_path: Path
) -> None:
    """A traceback would bury it, and `service dev` has the logs of three processes."""
    (tmp_path / "mine.py").write_text(TASKS + more)
    output = told(command, tmp_path, env)
    assert output.startswith("service: ")
    assert said in output
    assert output.count("\n") == 1
