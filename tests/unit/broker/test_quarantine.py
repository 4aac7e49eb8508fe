"""Which jobs whose workers died may run beside which others."""

import json

from service.broker.delivery import Delivery, LeaseOptions
from service.broker.leases.quarantine import Quarantine

_LEASE = 60.0


def _delivery(name: str, deliveries: int) -> Delivery:
    message = json.dumps({"properties": {"x-deliveries": deliveries}}).encode()
    return Delivery(name, "celery", message, name)


class _Process:
    """The jobs that one process holds."""

    def __init__(self, *, lease: float = _LEASE, max_deliveries: int = 5) -> None:
        options = LeaseOptions(lease, 3600.0, max_deliveries)
        self.open: set[str] = set()
        self._quarantine = Quarantine(options, self.open.__contains__)

    def admit(self, *names: str, deliveries: int) -> list[str]:
        """Offer jobs; those that were admitted."""
        admitted = []
        for name in names:
            if self._quarantine.admits(_delivery(name, deliveries)):
                self.open.add(name)
                admitted.append(name)
        return admitted


def test_jobs_that_came_back_less_than_twice_run_freely() -> None:
    """Any worker may be killed once by something else."""
    process = _Process()
    assert process.admit("a", "b", deliveries=0) == ["a", "b"]
    assert process.admit("c", "d", deliveries=1) == ["c", "d"]


def test_the_first_suspect_runs_alone() -> None:
    """If it is the culprit, none of the others is counted with it."""
    process = _Process()
    assert process.admit("a", "b", "c", deliveries=2) == ["a"]


def test_each_that_ends_well_makes_room_for_two() -> None:
    """Hundreds of unlucky jobs must not take hours to prove that they are harmless."""
    process = _Process()
    process.admit("a", deliveries=2)
    process.open.clear()
    assert process.admit("b", "c", "d", deliveries=2) == ["b", "c"]
    process.open.clear()
    assert process.admit("e", "f", "g", "h", "i", deliveries=2) == ["e", "f", "g", "h"]


def test_a_lease_without_harm_is_as_good_as_an_end() -> None:
    """A suspect may run for hours."""
    process = _Process(lease=0.0)
    assert process.admit("a", "b", "c", deliveries=2) == ["a", "b", "c"]


def test_of_jobs_on_their_last_chance_there_is_one() -> None:
    """Were there two, the culprit would make a dead letter of the other."""
    process = _Process()
    for name in "abc":
        process.admit(name, deliveries=2)
        process.open.clear()
    assert process.admit("x", "y", deliveries=4) == ["x"]
    assert process.admit("d", deliveries=3) == ["d"]
    process.open.clear()
    assert process.admit("y", deliveries=4) == ["y"]


def test_where_the_first_chance_is_the_last_nobody_waits() -> None:
    """There is nothing to be told apart by a second run."""
    process = _Process(max_deliveries=1)
    assert process.admit("a", "b", deliveries=2) == ["a", "b"]
