"""How a worker says that it is; pure."""

from typing import Final

import msgspec

GONE_AFTER: Final = 5.0  # seconds without a report; workers report every second


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker reports of itself. Times are seconds, `started_at` since 1970."""

    pool: str
    capacity: int
    running: int
    held: dict[str, int]  # jobs held, running ones included, by queue
    queues: list[str]
    started_at: float
    lease_age: float | None = None  # since its leases were last renewed; None without leases


def encode_status(status: WorkerStatus) -> str:
    """The form in which Redis keeps a status."""
    return msgspec.json.encode(status).decode()


def decode_status(stored: bytes) -> WorkerStatus | None:
    """Read a status; None if it is not one, such as that of another version of the service."""
    try:
        return msgspec.json.decode(stored, type=WorkerStatus)
    except msgspec.MsgspecError:
        return None
