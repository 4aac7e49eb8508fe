"""Runs pytest in a process of its own, in a folder outside of the checkout."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.process import ROOT


def pytest_in(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in the folder."""
    # As a run of its own, not as a part of the one that this process is a worker of.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**outer, "PYTHONPATH": f"{folder}:{ROOT}", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
