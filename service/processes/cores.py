"""How many processors this process may use."""

import math
import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")  # of a container: Linux's control groups, version 2


def usable_cores(quota: Path = _QUOTA) -> int:
    """The processors that the system gives us, or a container's share of them, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    try:
        allowed, period = quota.read_text().split()
        share = math.ceil(int(allowed) / int(period))
    except (OSError, ValueError):  # no such group, or the word `max`
        return cores
    return max(1, min(cores, share))
