"""What a delivery is, and the options of its lease."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was handed to this process under `tag`, and has not ended.

    `ident` is the delivery tag that the message's publisher gave it: it stays the same over
    deliveries, while each delivery has a `tag` of its own. `job` is the job's id once that runs;
    then `message` is empty, as Redis has it: of thousands of jobs each weighs that much less.
    `is_due` says of a scheduled job that it is due by the server's clock.
    """

    tag: str
    queue: str
    message: bytes
    ident: str
    job: str | None = None
    is_due: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Equal for deliveries of one message in one queue; an exchange can copy it to others."""
        return self.ident, self.queue


@dataclass(frozen=True, slots=True)
class Unusable:
    """A delivery whose message cannot be a job, and why."""

    delivery: Delivery
    reason: str


@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """Times in seconds; `stock` is how long a stock worker may hold a message.

    `on_lost` is called with the tag and the job's id when a lease was lost, in the leases thread.
    """

    lease: float
    stock: float
    max_deliveries: int
    on_lost: Callable[[str, str | None], object] | None = None

    @property
    def pause(self) -> float:
        """Seconds between two rounds of renewing leases, and of sweeping."""
        return self.lease / 10
