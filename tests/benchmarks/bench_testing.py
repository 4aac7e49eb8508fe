"""What a test with the fixture `jobs` costs, beside one with `recorded_jobs` and one with neither.

Run it with `python -m tests.benchmarks.bench_testing`. The kinds of tests take turns in one run of
pytest. Told are the least and the median of each kind in milliseconds, by the clock and of the
processor time of pytest's process; the first test of the run, which starts Valkey, stands apart.
"""

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from tests.support.pytest_run import pytest_in

TESTS: Final = 150  # of each kind
WARM_UP: Final = 5  # tests of each kind that are not counted

_FILES: Final = {
    "shop.py": """
from quart import Quart
from service import Jobs, TaskBlueprint

tasks = TaskBlueprint("shop")


@tasks.task
async def double(number: int) -> int:
    return 2 * number


def create_app() -> Quart:
    app = Quart("shop")
    Jobs(app, tasks=[tasks], url_prefix="/jobs")
    return app
""",
    "pytest.ini": "[pytest]\nasyncio_mode = auto\njobs_app = shop:create_app\n",
    "conftest.py": """
import json, os, time
import pytest

taken = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    clock, processor = time.perf_counter(), time.process_time()
    result = yield
    kind = item.originalname.removeprefix("test_with_")
    taken.append((kind, time.perf_counter() - clock, time.process_time() - processor))
    return result


def pytest_sessionfinish():
    with open(os.environ["TAKEN"], "w") as file:
        json.dump(taken, file)
""",
    "test_it.py": f"""
import pytest
from shop import double


@pytest.mark.parametrize("number", range({TESTS}))
class TestKinds:
    async def test_with_jobs(self, jobs, number):
        assert await jobs.run(double, number) == 2 * number

    async def test_with_recorded_jobs(self, recorded_jobs, number):
        assert await recorded_jobs.run(double, number) == 2 * number

    async def test_with_neither(self, number): ...
""",
}


def main() -> None:
    """Run the tests, and tell what they took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in _FILES.items():
            (folder / path).write_text(text)
        run = pytest_in(folder, "-q", TAKEN=str(folder / "taken.json"))
        assert run.returncode == 0, run.stdout + run.stderr
        taken = json.loads((folder / "taken.json").read_text())
    print(f"{'the first test':20} clock {1000 * taken[0][1]:6.1f}")
    for kind in ("jobs", "recorded_jobs", "neither"):
        tests = [test[1:] for test in taken if test[0] == kind][WARM_UP:]
        texts = [
            f"{what} {1000 * min(times):6.1f} (median {1000 * median(times):6.1f})"
            for what, times in zip(("clock", "processor"), zip(*tests, strict=True), strict=True)
        ]
        print(f"{kind:20} {'   '.join(texts)}")


if __name__ == "__main__":
    main()
