"""How many worker processes are one for each processor."""

import os
from pathlib import Path

import pytest

from service.processes import usable_cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", None), ("50000 100000", 1), ("100001 100000", 2), ("9900000 100000", None)],
    ids=["no limit", "half of one", "more than one", "more than there are"],
)
def test_a_container_has_its_share(tmp_path: Path, quota: str, cores: int | None) -> None:
    """A share of a processor is a whole one, and the machine has no more than it has."""
    file = tmp_path / "cpu.max"
    file.write_text(f"{quota}\n")
    machine = len(os.sched_getaffinity(0))
    assert usable_cores(file) == min(cores or machine, machine)


def test_outside_of_a_container_it_is_the_machines(tmp_path: Path) -> None:
    """Also under the first version of control groups, which has no such file."""
    assert usable_cores(tmp_path / "none") == len(os.sched_getaffinity(0))
