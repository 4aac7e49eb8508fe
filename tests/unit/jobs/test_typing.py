"""A handle has its function's own types, as mypy sees them."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

RIGHT = """
    from typing import Any
    from service import TaskBlueprint
    from typing_extensions import assert_type

    tasks = TaskBlueprint("typed")

    @tasks.task
    async def fetch(url: str, *, tries: int = 3) -> bytes: ...

    @tasks.task(public=True)
    def count(text: str) -> int: ...

    @tasks.task(bind=True, max_retries=5)
    async def again(self: Any, number: float) -> list[str]: ...

    async def use() -> None:
        assert_type(await fetch("x", tries=1), bytes)
        assert_type(count("x"), int)
        assert_type(await (await fetch.enqueue("x")).result(), bytes)
        assert_type(await (await count.enqueue("x")).result(timeout=3), int)
        assert_type(await (await again.enqueue(1.5)).result(), list[str])
"""
WRONG = """
    from service import TaskBlueprint

    tasks = TaskBlueprint("typed")

    @tasks.task
    async def fetch(url: str, *, tries: int = 3) -> bytes: ...

    async def use() -> None:
        await fetch.enqueue(1)
        await fetch.enqueue("x", tried=2)
        await fetch.enqueue()
        fetch.delay(7)
        tasks.task(show_arguments="yes")
"""


def mypy(folder: Path, code: str) -> str:
    file = folder / "user_code.py"
    file.write_text(dedent(code))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(file)]
    command += ["--disable-error-code=empty-body", f"--cache-dir={folder / 'cache'}"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


@pytest.mark.slow  # it starts mypy
def test_right_calls_pass_and_wrong_ones_are_found(tmp_path: Path) -> None:
    """Both in one test: starting mypy is what takes the time."""
    assert mypy(tmp_path, RIGHT).startswith("Success")
    found = mypy(tmp_path, WRONG)
    assert found.count("user_code.py:") - found.count("note:") == 5, found
