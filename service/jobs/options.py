"""One call of a task, and how it is to be sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.errors import InvalidJobIdError
from service.results.model import is_job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """Celery's options of a call; None leaves what the task and the routes say.

    `countdown` is in seconds, `expires` in seconds or a moment, `priority` from 0 to 9 (on Redis
    0 is served first). Raises ValueError and InvalidJobIdError.
    """

    countdown: float | None = None
    eta: datetime | None = None
    queue: str | None = None
    priority: int | None = None
    expires: float | datetime | None = None
    job_id: str | None = None
    headers: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.job_id is not None and not is_job_id(self.job_id):
            raise InvalidJobIdError(self.job_id)
        if self.countdown is not None and self.eta is not None:
            raise ValueError("Give `countdown` or `eta`, not both.")
        if self.priority is not None and not 0 <= self.priority <= 9:  # noqa: PLR2004  as told
            raise ValueError("`priority` is a whole number from 0 to 9.")

    @property
    def plain(self) -> bool:
        """Whether nothing in the message depends on the moment or on the one call."""
        return (
            self.countdown is None
            and self.eta is None
            and self.expires is None
            and self.headers is None
        )

    def as_celery(self) -> dict[str, Any]:
        """The options that are given, by Celery's names, without the id."""
        given = {
            "countdown": self.countdown,
            "eta": self.eta,
            "queue": self.queue,
            "priority": self.priority,
            "expires": self.expires,
            "headers": self.headers and dict(self.headers),
        }
        return {name: value for name, value in given.items() if value is not None}


PLAIN = SendOptions()


@dataclass(frozen=True, slots=True)
class Call:
    """A task of Celery's with the arguments for one job of it."""

    task: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: SendOptions = PLAIN
