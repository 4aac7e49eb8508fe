"""What one caller may have: the named limits of `SERVICE_LIMITS`, read and told; pure."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from service.errors import CapacityError

_OFF: Final = "off"
_RATE: Final = re.compile(r"(\d+)/(\d*)([smhd])")
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS: Final = {"open_bytes": "content-bytes"}  # as the IETF's draft names them
_PER_TIME: Final = frozenset({"requests", "starts", "sign_ins"})


@dataclass(frozen=True, slots=True)
class Limit:
    """So many within a time, or at once where `seconds` is 0; none at all where `quota` is 0.

    By the generic cell rate algorithm (GCRA), a caller that had none of a quota may have all of it
    at once, and from then on one more each `step` seconds.
    """

    quota: int = 0
    seconds: int = 0

    @property
    def step(self) -> float:
        """The seconds after which one of the quota is there again; 0 for what has no rate."""
        return self.seconds / self.quota if self.quota else 0.0

    def left(self, debt: float) -> int:
        """How many are left of a quota that is whole again in so many seconds."""
        return max(0, int((self.seconds - debt) * self.quota / self.seconds + 1e-6))

    def __str__(self) -> str:
        if not self.quota:
            return _OFF
        for letter, unit in reversed(SECONDS.items()):
            if self.seconds and self.seconds % unit == 0:
                return f"{self.quota}/{self.seconds // unit}{letter}"
        return str(self.quota)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits by their names, in which `-` is written for `_`."""

    requests: Limit = Limit(30_000, 60)
    starts: Limit = Limit(6_000, 60)
    sign_ins: Limit = Limit(20, 60)  # with a wrong token
    open_jobs: Limit = Limit(10_000)  # that have not ended
    open_bytes: Limit = Limit(67_108_864)  # of their messages
    streams: Limit = Limit(1_000)  # of one web process, as are the next two
    waiters: Limit = Limit(1_000)  # requests that wait for a change
    bodies: Limit = Limit(100)  # that are still on their way

    def __str__(self) -> str:
        return ",".join(f"{name.replace('_', '-')}={limit}" for name, limit in self._all())

    @property
    def off(self) -> list[str]:
        """The names of those that limit nothing."""
        return [name.replace("_", "-") for name, limit in self._all() if not limit.quota]

    def policy(self, name: str) -> str:
        """A limit as an item of the field `RateLimit-Policy`."""
        field = name.replace("-", "_")
        limit: Limit = getattr(self, field)
        unit = _UNITS.get(field, "" if limit.seconds else "concurrent-requests")
        window = f";w={limit.seconds}" if limit.seconds else ""
        return f'"{name}";q={limit.quota}' + (f';qu="{unit}"' if unit else "") + window

    def _all(self) -> Iterator[tuple[str, Limit]]:
        return ((each.name, getattr(self, each.name)) for each in fields(self))


def parse_limits(value: Any) -> Limits:
    """Limits as a setting has them: `starts=60/1m,open-jobs=1000`; those not named are as ever.

    `off` stands for no limit, of one name or of all. Raises ValueError.
    """
    if isinstance(value, Limits):
        return value
    text = str(value).strip()
    names = [each.name for each in fields(Limits)]
    if text == _OFF:
        return Limits(**dict.fromkeys(names, Limit()))
    given: dict[str, Limit] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        name, _, wanted = (part.strip() for part in item.partition("="))
        field = name.replace("-", "_")
        if field not in names:
            known = ", ".join(each.replace("_", "-") for each in names)
            raise ValueError(f"`{name}` is no limit: there are {known}")
        given[field] = _limit(name, wanted, per_time=field in _PER_TIME)
    return replace(Limits(), **given)


def _limit(name: str, text: str, *, per_time: bool) -> Limit:
    if text == _OFF:
        return Limit()
    rate = _RATE.fullmatch(text)
    if per_time and rate and int(rate[1]) and int(rate[2] or 1):
        return Limit(int(rate[1]), int(rate[2] or 1) * SECONDS[rate[3]])
    if not per_time and text.isascii() and text.isdigit() and int(text):
        return Limit(int(text))
    raise ValueError(f"`{name}` must be {'like 60/1m' if per_time else 'a number'}, or `off`")


class LimitExceededError(CapacityError):
    """A caller has had all that it may of `limit`, and has one again in `retry_after` seconds."""

    def __init__(self, limit: str, retry_after: float = 0.0) -> None:
        self.limit = limit
        self.retry_after = max(2, math.ceil(retry_after))
        super().__init__(
            f"You have reached the limit {limit!r}. Try again in {self.retry_after} s."
        )
