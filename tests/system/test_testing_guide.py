"""The tests of the guide to testing, run as they are written."""

import re
from pathlib import Path

from tests.support.process import ROOT
from tests.support.pytest_run import pytest_in


def test_the_tests_of_the_guide_pass(tmp_path: Path) -> None:
    """In a process of their own, as a reader runs them."""
    guide = (ROOT / "service/docs/testing.md").read_text()
    for code, path in re.findall(r"```(?:python|ini)\n(# (\S+)\n.*?)```", guide, re.DOTALL):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    assert re.findall(r"```python\n(?!# \S+\n).*", guide) == []  # it would not be run
    run = pytest_in(tmp_path)
    assert "7 passed" in run.stdout, run.stdout
