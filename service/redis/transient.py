"""Tells which errors of Redis will pass, which mean that nothing was written, and what they say."""

from typing import Any, Final

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

# Errors that say nothing of the job or message at hand: the same call may work in a moment.
# Celery's result backend and Kombu wrap what redis-py raises in OperationalError.
TRANSIENT: Final = (RedisError, OperationalError, OSError)

# Redis answers so while it loads, fails over, is full or cannot save. Before the first command of a
# script that writes it looks for these, and never after: none of them leaves half of a script done.
_REFUSALS: Final = frozenset(
    {"BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY"}
)
# Redis Cluster while it moves keys; the last one is what a script is told.
OF_SCRIPTS: Final = "Script attempted to access a non local key"
_MOVING: Final = frozenset({"CLUSTERDOWN", "TRYAGAIN", OF_SCRIPTS})
# While somebody changes users or passwords; the last one is what a script is told.
_RIGHTS: Final = frozenset({"NOAUTH", "NOPERM", "WRONGPASS", "ACL failure"})
_PASSING: Final = tuple(_REFUSALS | _MOVING | _RIGHTS)


def reason_of(error: BaseException) -> str:
    """The error for people; the `repr` of redis-py's errors leaves out what was wrong."""
    return f"{type(error).__name__}: {error}"


def answer_of(error: Any) -> str:
    """What Redis answered, with the code that redis-py cuts off where it knows it."""
    return f"{error.status_code} {error}" if error.status_code else str(error)


def will_pass(answer: str) -> bool:
    """Whether Redis refused because of its own condition, and not because of the command."""
    return answer.removeprefix("ERR ").startswith(_PASSING)


def wrote_nothing(error: Exception) -> bool:
    """Whether Redis refused a script before it wrote anything."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    return code == "NOAUTH" or code in _REFUSALS
