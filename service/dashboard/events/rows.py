"""One line about a job for the list of recent jobs; pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from service.results.model import State
from service.signals import JobEvent

# A row takes the place of another of the same job if its state is as far or further.
_RANK: dict[str, int] = {
    State.QUEUED: 0,
    State.STARTED: 1,
    State.PROGRESS: 1,
    State.RETRY: 1,
    State.SUCCESS: 2,
    State.FAILURE: 2,
    State.REVOKED: 2,
}
_QUEUED: Final = State.QUEUED.value
_READY: Final = frozenset(state.value for state in State if state.ready)


class JobRow(msgspec.Struct, array_like=True, frozen=True, omit_defaults=True, gc=False):
    """What the list shows of a job. Times are seconds since 1970; None is not known.

    Without `gc` the collector passes it over: there are thousands, and none can be in a cycle.
    """

    id: str
    state: str
    task: str
    at: float  # when this was noted
    worker: str | None = None
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    retries: int = 0

    @property
    def ready(self) -> bool:
        """Whether the job has ended."""
        return self.state in _READY

    @property
    def began_at(self) -> float:
        """When the job came into being, as far as we know."""
        return self.queued_at or self.started_at or self.at

    @property
    def ran_for(self) -> float | None:
        """How long it ran, in seconds; None while it does, and where it never did."""
        if self.finished_at is None or self.started_at is None:
            return None
        return max(0.0, self.finished_at - self.started_at)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(list[JobRow])


def is_newer(event: JobEvent, other: JobEvent) -> bool:
    """Whether an event takes the place of one of the same job that came before it."""
    return _RANK.get(event.state, 1) >= _RANK.get(other.state, 1)


def encode_events(events: Sequence[JobEvent]) -> bytes:
    """The rows that events make, in the form in which Redis keeps them.

    All in one text: an entry of its own for each would cost the process that reports, and Redis,
    several times as much.
    """
    return _ENCODER.encode([_as_row(event) for event in events])


def _as_row(event: JobEvent) -> tuple[object, ...]:
    row = (event.id, event.state, event.task, event.at, event.worker)
    if event.state == _QUEUED:
        return (*row, event.at)
    finished = event.at if event.state in _READY else None
    return (*row, moment(event.queued_at), moment(event.started_at), finished, event.retries)


def decode_rows(stored: bytes) -> list[JobRow]:
    """Read rows; none if they are not such, as those of another version of the service."""
    try:
        return _DECODER.decode(stored)
    except msgspec.MsgspecError:
        return []


def newer(old: JobRow | None, new: JobRow) -> JobRow:
    """Which of two rows of one job tells the present: one that has ended stays ended."""
    if old is None:
        return new
    before, after = _RANK.get(old.state, 1), _RANK.get(new.state, 1)
    if after < before or (after == before and new.at < old.at):
        return _filled(old, new)
    return _filled(new, old)


def _filled(row: JobRow, other: JobRow) -> JobRow:
    """The row, with times that only the other one has."""
    if row.queued_at is not None or other.queued_at is None:
        return row
    return msgspec.structs.replace(row, queued_at=other.queued_at)


def moment(text: object) -> float | None:
    """Seconds since 1970 of an ISO time; None if it is not one."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
