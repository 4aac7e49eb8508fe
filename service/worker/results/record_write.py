"""What is to be stored of one job, and the script that stores it."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

STORE: Final = (files("service.worker.results") / "store.lua").read_text()

# Redis says so while it loads, fails over, is full or can't save: it will be able to again.
_PASSING: Final = (
    "LOADING",
    "READONLY",
    "OOM",
    "MISCONF",
    "MASTERDOWN",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One record on its way to Redis."""

    key: bytes
    record: str
    lifetime: int  # seconds; 0 is for ever
    final: bool  # the job has ended with it


def answer_of(error: Any) -> str:
    """What Redis answered, with the code that redis-py cuts off where it knows it."""
    return f"{error.status_code} {error}" if error.status_code else str(error)


def will_pass(answer: str) -> bool:
    """Whether an error that Redis answered with is one of its own, and not of the record."""
    return answer.removeprefix("ERR ").startswith(_PASSING)
