"""Has Python look for garbage at the pace of a worker, not of a small program."""

import gc
from typing import Final

_PYTHONS_OWN: Final = (700, 10, 10)
_THRESHOLDS: Final = (10_000, 20, 20)


def look_for_garbage_seldom() -> None:
    """Leave out what lives as long as the worker, and look less often at the jobs in flight.

    With thousands of them Python's own pace is a quarter of a job's cost, for next to nothing:
    a job that ends leaves no cycles. Whoever has chosen another pace keeps it.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == _PYTHONS_OWN:
        gc.set_threshold(*_THRESHOLDS)
