"""What is known of a job: its state, progress, error and result."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

# Browsers, and whatever follows RFC 3986, take the parts `.` and `..` out of an address.
_ID: Final = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{1,64}")


class State(StrEnum):
    """How far a job is."""

    QUEUED = "QUEUED"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


TERMINAL: Final = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of its work a job says that it has done."""

    current: float
    total: float | None = None
    note: str = ""

    @property
    def percent(self) -> int | None:
        """Of the whole, within 0 and 100 whatever the job says; None where that is unknown."""
        if not self.total:
            return None
        try:
            share = self.current / self.total
        except OverflowError:  # of numbers that no float can be
            share = float(self.current > self.total)
        return round(100 * max(0.0, min(1.0, share)))


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, without anything of the machine that it failed on."""

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job made, or how far it is. Times are those that were recorded; None is unknown."""

    id: str
    state: State
    task: str | None = None
    result: Any = None
    error: JobError | None = None
    progress: Progress | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    due_at: datetime | None = None  # of a scheduled job, and of a retry that is to come
    attempt: int = 1  # the number of the present one, or of the last
    cancelled_by: str | None = None  # the caller's id; empty for an unknown one
    owner: str | None = None
    arguments: Mapping[str, Any] | None = None  # by name, where the task allows showing them

    @property
    def ready(self) -> bool:
        """Whether the job has ended."""
        return self.state in TERMINAL

    @property
    def successful(self) -> bool:
        """Whether the job has ended well."""
        return self.state is State.SUCCESS


def is_job_id(text: str) -> bool:
    """Whether the text has the shape of a job's id."""
    return _ID.fullmatch(text) is not None
