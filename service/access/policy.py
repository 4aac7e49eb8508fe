"""Callers, what they can ask to do, and what they may by default; pure."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

from service.jobs.arguments import check_owner

ADMIN: Final = "admin"
OPERATOR: Final = "operator"
VIEWER: Final = "viewer"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. `id` is the owner of the jobs that this caller starts.

    `roles` are names: `viewer`, `operator` and `admin` are those of the dashboard, any other is the
    app's own. `scopes` narrow what a token may do; None narrows nothing. Raises ValueError for an
    id that is empty or longer than 255 characters.
    """

    id: str
    roles: AbstractSet[str] = frozenset()
    scopes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the id; keep the roles as a set."""
        check_owner(self.id)
        if isinstance(self.roles, str):
            raise TypeError(f"`roles` are several names, such as {{{self.roles!r}}}.")
        object.__setattr__(self, "roles", frozenset(self.roles))

    def has_role(self, *roles: str) -> bool:
        """Whether the caller has one of the roles."""
        return any(role in self.roles for role in roles)


ROLES: Final = (VIEWER, OPERATOR, ADMIN)
_START: Final = "start:"
_CANCEL: Final = "cancel"


def check_scope(scope: str) -> None:
    """Raise ValueError if a token cannot have this scope."""
    if scope in (_CANCEL, *ROLES) or (scope.startswith(_START) and scope != _START):
        return
    raise ValueError(
        f"{scope!r} is no scope. Scopes are `start:` with a pattern of tasks (`start:mail.*`),"
        " `cancel`, and the roles `viewer`, `operator` and `admin`."
    )


def roles_in(scopes: tuple[str, ...]) -> frozenset[str]:
    """The roles that a token has by its scopes."""
    return frozenset(scope for scope in scopes if scope in ROLES)


def is_in_scope(caller: Caller | None, action: "Action", task: str | None) -> bool:
    """Whether the caller's token, if there is one, is for this. It may always see its own jobs."""
    if caller is None or caller.scopes is None or ADMIN in caller.scopes:
        return True
    if action in {Action.START, Action.RUN_AGAIN}:
        patterns = (s.removeprefix(_START) for s in caller.scopes if s.startswith(_START))
        return any(fnmatchcase(task or "", pattern) for pattern in patterns)
    return action is not Action.CANCEL or _CANCEL in caller.scopes


class Action(StrEnum):
    """What a caller can ask to do."""

    START = "start"  # a job of a task
    SEE = "see"  # a job: its state, progress, result and error
    SEE_ARGUMENTS = "see arguments"
    SEE_OUTPUT = "see output"  # what its attempts have left behind: tracebacks, log, files
    CANCEL = "cancel"
    RUN_AGAIN = "run again"
    WATCH = "watch"  # the dashboard
    OPERATE = "operate"  # what the dashboard shows: replay, drop, retry, cancel, pause
    ADMINISTER = "administer"  # the service itself: see the audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an action is about: a task, a job of it with its owner, or the service as a whole.

    Of a job that never was, the `owner` is empty and the `task` None.
    `is_open` is true for a job that anybody may see who has its id: one without an owner, unless
    SERVICE_RESULT_ACCESS is `owner`.
    """

    task: str | None = None
    job_id: str | None = None
    owner: str | None = None
    is_open: bool = False


Allow: TypeAlias = Callable[[Caller | None, Action, Subject], bool]

_ROLES: Final = {
    Action.WATCH: ROLES,
    Action.OPERATE: (OPERATOR, ADMIN),
    Action.ADMINISTER: (ADMIN,),
}


def allow_by_default(caller: Caller | None, action: Action, subject: Subject) -> bool:
    """An owned job is its owner's and an administrator's; the dashboard is for its roles.

    START is always allowed here: `Access.may_start` has checked the declaration of the task.
    """
    if action is Action.START:
        return True
    if action in _ROLES:
        return caller is not None and caller.has_role(*_ROLES[action])
    if subject.is_open:
        return True
    return caller is not None and (caller.id == subject.owner or caller.has_role(ADMIN))
