"""What it means to hold a message, and for how long."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Held:
    """A message that this process holds under `tag`; `item` is its JSON.

    Once its job runs there is no item, but the job's id: Redis has the message, and of thousands
    of jobs at once each is lighter by what it weighs.

    `ident` is the delivery tag that its publisher gave it. It stays the same over deliveries,
    while each delivery is held under a tag of its own.
    """

    tag: str
    queue: str
    item: bytes
    ident: str
    job: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells that two deliveries are of one message (an exchange can copy it to queues)."""
        return self.ident, self.queue

    def without_item(self, job: str) -> "Held":
        """The same as it is held while its job runs."""
        return Held(self.tag, self.queue, b"", self.ident, job)


@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """Times in seconds; `stock` is how long a stock worker may hold a message.

    `on_lost` is called with the tag and the job's id when a lease was lost, in the leases' thread.
    """

    lease: float
    stock: float
    max_deliveries: int
    priority_steps: tuple[int, ...]
    separator: str
    on_lost: Callable[[str, str | None], object] | None = None

    @property
    def pause(self) -> float:
        """Seconds between two looks at what is held, by this process and by others."""
        return self.lease / 10
