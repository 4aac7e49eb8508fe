"""Groups failures by error and place, as they are reported and as they are stored; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha1
from typing import Final

import msgspec

from service.results.model import State
from service.signals import JobEvent

SLOT: Final = 1800  # seconds
SLOTS: Final = 48  # that are kept: a day


class FailureGroup(msgspec.Struct, kw_only=True):
    """The failures by one type of error, raised at one place. Times are seconds since 1970.

    `slots` has how many there were by half hours; `error`, `task` and `job` are of the last one.
    """

    id: str
    type: str
    place: str
    error: str
    task: str
    job: str
    first: float
    last: float
    count: int
    slots: dict[str, int]

    def bars(self, now: float) -> list[int]:
        """How many failures there were in each half hour of the last day, the oldest first."""
        return [self.slots.get(str(slot), 0) for slot in _slots_until(now)]


_DECODER: Final = msgspec.json.Decoder(FailureGroup)


def bars_of(moments: Iterable[float], now: float) -> list[int]:
    """How many of the moments are in each half hour of the last day, the oldest first."""
    counts = Counter(int(at // SLOT) for at in moments)
    return [counts[slot] for slot in _slots_until(now)]


def _slots_until(now: float) -> range:
    newest = int(now // SLOT)
    return range(newest - SLOTS + 1, newest + 1)


def group_id(event: JobEvent) -> str:
    """The group that a failed job belongs to; empty for one that has not failed."""
    if event.state != State.FAILURE or not event.error:
        return ""
    name = f"{event.error_type}\n{event.place or event.task}"
    return sha1(name.encode(errors="replace")).hexdigest()[:16]  # noqa: S324  a name, no secret


def grouped(events: Iterable[JobEvent]) -> list[FailureGroup]:
    """The groups of those events that are failures."""
    found: dict[str, FailureGroup] = {}
    for event in events:
        if not (name := group_id(event)):
            continue
        group = found.get(name)
        if group is None:
            group = found[name] = FailureGroup(
                id=name,
                type=event.error_type,
                place=event.place,
                error=event.error,
                task=event.task,
                job=event.id,
                first=event.at,
                last=event.at,
                count=0,
                slots={},
            )
        group.count += 1
        slot = str(int(event.at // SLOT))
        group.slots[slot] = group.slots.get(slot, 0) + 1
        group.first = min(group.first, event.at)
        if event.at >= group.last:
            group.last, group.job, group.task = event.at, event.id, event.task
            group.error = event.error
    return list(found.values())


def read_groups(stored: Mapping[bytes, bytes]) -> tuple[FailureGroup, ...]:
    """The stored groups, the one with the newest failure first; without those of other versions."""
    groups: list[FailureGroup] = []
    for data in stored.values():
        try:
            groups.append(_DECODER.decode(data))
        except msgspec.MsgspecError:
            continue
    return tuple(sorted(groups, key=lambda group: -group.last))
