"""A handle has its function's own types, as mypy and pyright see them in an installed wheel."""

import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.process import ROOT

# A checker must refuse exactly the lines that are marked so.
PROGRAM = """
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from service import Job, TaskBlueprint

tasks = TaskBlueprint("typed")


@tasks.task
async def fetch(url: str, *, tries: int = 3) -> bytes:
    return url.encode() * tries


@tasks.task(public=True)
def count(text: str) -> int:
    return len(text)


@tasks.task(bind=True, max_retries=5)
async def again(self: Any, number: float) -> list[str]:
    return [str(number)]


@dataclass
class Order:
    price: Decimal


@tasks.task
async def pay(order: Order, at: datetime | None = None) -> list[Order]:
    return [order]


async def right() -> None:
    paid = await pay.enqueue(Order(Decimal(1)), at=datetime.now(UTC))
    assert_type(await paid.result(), list[Order])
    assert_type(await fetch("x", tries=1), bytes)
    assert_type(count("x"), int)
    job = await fetch.enqueue("x", tries=2)
    assert_type(job, Job[bytes])
    assert_type(await job.result(), bytes)
    assert_type(await (await count.enqueue("x")).result(timeout=3), int)
    assert_type(await (await again.enqueue(1.5)).result(), list[str])
    later = again.options(countdown=5, expires=datetime.now(UTC), headers={"tenant": "x"})
    assert_type(await later.enqueue(number=1.5), Job[list[str]])
    count.delay("x")


async def wrong() -> None:
    await pay.enqueue({"price": 1})  # refused
    (await (await pay.enqueue(Order(Decimal(1)))).result())[0].cost  # refused
    await fetch.enqueue(1)  # refused
    await fetch.enqueue("x", tried=2)  # refused
    await fetch.enqueue()  # refused
    await again.enqueue(None, 1.5)  # refused
    fetch.delay(7)  # refused
    fetch.options(countdown="5")  # refused
    fetch.options(count_down=5)  # refused
    await fetch.options(queue="slow").enqueue(1)  # refused
    tasks.task(show_arguments="yes")  # refused
    text: str = await (await count.enqueue("x")).result()  # refused
    print(text)
"""

Checker = Callable[[Path], list[str | Path]]


def _mypy(python: Path) -> list[str | Path]:
    options = ["--strict", "--config-file=", f"--cache-dir={ROOT / '.mypy_cache/wheel'}"]
    return [*options, "--python-executable", python]


def _pyright(python: Path) -> list[str | Path]:
    return ["--pythonpath", python]


def run(checker: Checker, python: Path, *files: Path) -> str:
    """What the checker prints of the files, which are in one folder."""
    command = [sys.executable, "-m", checker.__name__.strip("_"), *checker(python), *files]
    folder = files[0].parent
    shown = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    return shown.stdout + shown.stderr


pytestmark = pytest.mark.slow  # it builds a wheel, and starts both


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, which borrows what that depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        folder,
    ]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(folder / "venv")
    python = folder / "venv/bin/python"
    (site_packages,) = (folder / "venv/lib").glob("python*/site-packages")
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site_packages], check=True)
    # Python reads no `.pth` in there, so the repository's own, editable package stays unseen.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.mark.parametrize("checker", [_mypy, _pyright])
def test_right_calls_pass_and_wrong_ones_are_refused(
    checker: Checker, installed: Path, tmp_path: Path
) -> None:
    """By whichever of the two a user of the wheel has."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    shown = run(checker, installed, file)
    found = re.findall(r"program\.py:(\d+).* error: ", shown)
    marked = [n for n, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# refused")]
    assert sorted({int(number) for number in found}) == marked, shown


# A line that a checker must refuse, for each of README's programs.
WRONG = {
    "Try it": "await greet.enqueue('Ada', seconds='five')",
    "Put it into your Quart app": "await send_welcome.enqueue(5)",
    "Use it from FastAPI": "await send_welcome.enqueue(addres='ada')",
}
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("checker", [_mypy, _pyright])
def test_a_wrong_argument_is_found_in_the_programs_of_the_readme(
    checker: Checker, installed: Path, tmp_path: Path
) -> None:
    """And nothing else is: a newcomer's program is clean under the strictest of checks."""
    wrong: list[tuple[str, int]] = []
    for number, (heading, line) in enumerate(WRONG.items()):
        section = README.partition(f"### {heading}\n")[2]
        code = section.partition("```python\n")[2].partition("```")[0]
        code += f"\n\nasync def wrong() -> None:\n    {line}\n"
        file = tmp_path / f"program_{number}.py"
        file.write_text(code)
        wrong.append((file.name, len(code.splitlines())))
    shown = run(checker, installed, *sorted(tmp_path.glob("*.py")))
    found = re.findall(r"(program_\d\.py):(\d+).* error: ", shown)
    assert sorted({(name, int(line)) for name, line in found}) == wrong, shown


def test_the_wheel_holds_all_that_is_not_python_too(installed: Path) -> None:
    """Scripts, pages, the glossary, and the mark by which checkers trust our annotations."""
    (root,) = (installed.parents[1] / "lib").glob("python*/site-packages/service")
    kept = {path.relative_to(ROOT / "service") for path in (ROOT / "service").rglob("*.*")}
    kept = {path for path in kept if "__pycache__" not in path.parts}
    assert {Path("GLOSSARY.md"), Path("py.typed")} < kept
    assert sorted(path for path in kept if not (root / path).exists()) == []
