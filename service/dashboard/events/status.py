"""How a worker says that it is; pure."""

from typing import Final

import msgspec

from service.signals import WorkerStatus

GONE_AFTER: Final = 5.0  # seconds without a report; workers report every second


def encode_status(status: WorkerStatus) -> str:
    """The form in which Redis keeps a status."""
    return msgspec.json.encode(status).decode()


def decode_status(stored: bytes) -> WorkerStatus | None:
    """Read a status; None if it is not one, such as that of another version of the service."""
    try:
        return msgspec.json.decode(stored, type=WorkerStatus)
    except msgspec.MsgspecError:
        return None
