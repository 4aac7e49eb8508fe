"""Finds the caller of a request, at most once, and asks whether that caller may do something."""

import inspect
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

from quart import Quart, Request, current_app, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, Forbidden, Unauthorized

from service.access.audit import Audit
from service.access.links import PARAMETER, opened_by
from service.access.operators import ADMINISTRATOR, Operators, bearer_of
from service.access.policy import (
    ADMIN,
    ROLES,
    Action,
    Allow,
    Caller,
    Subject,
    allow_by_default,
    is_in_scope,
)
from service.access.tokens import PREFIX, ApiTokens
from service.errors import UnknownJobError
from service.jobs.handle import AnyHandle
from service.parts import Parts, parts_of
from service.results.follower import Follower
from service.results.store import StoredRecord

Identify: TypeAlias = Callable[[Request], Caller | Awaitable[Caller | None] | None]

Sight: TypeAlias = Callable[[Action, StoredRecord], bool]

FROM_PROXY: Final = "service.from_proxy"  # in the ASGI scope of a request that a trusted proxy sent
_BY_LINK: Final = frozenset({Action.SEE, Action.SEE_ARGUMENTS, Action.SEE_OUTPUT})
_EXTENSION: Final = "service.access"
_CALLER: Final = "service.caller"  # in the ASGI scope of a request: its caller, once that is known


class Access:
    """Who may do what in an app; `identify` is the app's own way to find its callers, or None."""

    def __init__(self, parts: Parts, identify: Identify | None, allow: Allow) -> None:
        settings = parts.settings
        self.settings = settings
        self.identify = identify
        self.allow = allow
        self.owners_only = settings.result_access == "owner"  # no one sees a job that has no owner
        self.tokens = ApiTokens(parts.redis, parts.keys, timeout=settings.redis_timeout)
        self.operators = Operators(parts)
        self.audit = Audit(parts.redis, parts.keys, timeout=settings.redis_timeout)

    @property
    def has_operators(self) -> bool:
        """Whether anybody can have a role for the dashboard."""
        settings = self.settings
        return bool(settings.admin_token or settings.user_header or self.identify)

    async def find_caller(self, asked: Request) -> Caller | None:
        """The caller of a request: by a token, by the app's `identify`, or as the proxy says.

        A caller who also has the sign-in cookie gets the role admin besides. Raises Unauthorized
        for an API token that is unknown, revoked or expired, ResultsUnavailableError, and what
        `identify` raises.
        """
        if bearer := bearer_of(asked):
            if self.operators.is_token(bearer):
                return ADMINISTRATOR
            if bearer.startswith(PREFIX):
                if (token := await self.tokens.find(bearer)) is None:
                    raise _no_such_token()
                return token.caller
        caller = None
        if self.identify is not None:
            found = self.identify(asked)
            caller = await found if inspect.isawaitable(found) else found
            if caller is not None and not isinstance(caller, Caller):
                raise TypeError(f"`identify` gives a Caller or None, and not {caller!r}.")
        if caller is None and self.settings.user_header:
            caller = self._as_the_proxy_says(asked)
        if await self.operators.has_cookie(asked):
            if caller is None:
                return ADMINISTRATOR
            return replace(caller, roles=caller.roles | ADMINISTRATOR.roles)
        return caller

    def _as_the_proxy_says(self, asked: Request) -> Caller | None:
        """The user that a trusted proxy names.

        The header is ignored if another peer sent it, or if it is there twice: the proxy may have
        added its own to the client's.
        """
        if FROM_PROXY not in asked.scope:
            return None
        users = asked.headers.getlist(self.settings.user_header)
        if len(users) != 1 or not users[0]:
            return None
        header, roles = self.settings.roles_header, set[str]()
        if header and len(named := asked.headers.getlist(header)) == 1:
            roles = {role.strip() for role in named[0].split(",") if role.strip()}
        try:
            return Caller(users[0], roles)
        except ValueError as error:
            raise BadRequest(str(error)) from error

    def may_start(self, caller: Caller | None, task: AnyHandle) -> bool:
        """Whether the caller may start jobs of the task: by what that declares, and by `allow`."""
        rule = task.allow
        if callable(rule):
            allowed = bool(rule(caller))
        elif rule:
            allowed = caller is not None and caller.has_role(rule, ADMIN)
        else:
            allowed = task.public
        return (
            allowed
            and is_in_scope(caller, Action.START, task.name)
            and self.allow(caller, Action.START, Subject(task=task.name))
        )

    def may_do(self, caller: Caller | None, action: Action) -> bool:
        """Whether the caller may do something that is about the service as a whole."""
        return self.allow(caller, action, Subject())

    def may(self, caller: Caller | None, action: Action, record: StoredRecord) -> bool:
        """Whether the caller may do that with the job of a record."""
        owner = record.owner
        task = record.task
        is_open = owner is None and not self.owners_only
        subject = Subject(task=task, job_id=record.job_id, owner=owner, is_open=is_open)
        return is_in_scope(caller, action, task) and self.allow(caller, action, subject)


def add_access(app: Quart, identify: Identify | None, allow: Allow | None) -> None:
    """Give the app its callers and its policy."""
    app.extensions[_EXTENSION] = Access(parts_of(app), identify, allow or allow_by_default)


def access_of(app: Quart) -> Access:
    """Who may do what in the app."""
    access: Access = app.extensions[_EXTENSION]
    return access


def owner_for(caller: Caller | None) -> str | None:
    """The owner of the jobs that the caller starts.

    None for a caller with the admin token alone: several people may share that token.
    """
    return None if caller is None or caller is ADMINISTRATOR else caller.id


def current_request() -> Any:
    """The current request itself: Quart's proxy costs half a microsecond a look."""
    return request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  a public one


async def sight() -> Sight:
    """Whether the request's caller may do something with the job of a record.

    A signed link in the request lets anybody see its job.
    """
    access, caller = access_of(current_app), await caller_of()
    links, keys = request.args.getlist(PARAMETER), access.settings.signing_keys
    opened = opened_by(links, keys) if links and keys else frozenset()

    def may(action: Action, record: StoredRecord) -> bool:
        is_opened = record.job_id in opened and action in _BY_LINK
        return is_opened or access.may(caller, action, record)

    return may


async def shows_arguments(record: StoredRecord) -> bool:
    """Whether the request's caller may see the arguments of the job."""
    return (await sight())(Action.SEE_ARGUMENTS, record)


async def read_job(job_id: str, action: Action = Action.SEE) -> StoredRecord:
    """The record of a job that the request's caller may do the action with.

    Raises Forbidden if the caller may see the job but not do the action, and what
    `ResultStore.read` raises: UnknownJobError also if the caller may not see the job.
    """
    may = await sight()
    record = await parts_of(current_app).store.read(job_id, partial(may, Action.SEE))
    if action is not Action.SEE and not may(action, record):
        raise Forbidden(f"You may see this job, but not {action} it.")
    return record


async def follow_job(job_id: str, *, interval: float) -> tuple[Follower, StoredRecord]:
    """Follow a job that the request's caller may see, from the record that this gives.

    Raises what `ResultStore.read` and `Watcher.follow` raise.
    """
    may = partial(await sight(), Action.SEE)
    parts = parts_of(current_app)
    await parts.store.glance(job_id, may)
    with ExitStack() as on_error:
        follower = await parts.watcher.follow(job_id, interval=interval)
        on_error.callback(follower.close)
        record = follower.record(job_id)
        if not may(record):
            raise UnknownJobError(job_id)
        on_error.pop_all()
    return follower, record


async def audit(act: str, what: str = "", *, who: Caller | None = None) -> None:
    """Note an act of the request's caller, or of another one, in the audit."""
    who = who or await caller_of()
    name = "unknown" if who is None else who.id
    await access_of(current_app).audit.add(name, act, what, request.remote_addr or "")


async def audit_for_another(act: str, record: StoredRecord) -> None:
    """Note an act on a job that is not the caller's own, but that a role has allowed."""
    caller = await caller_of()
    if caller is not None and caller.id != record.owner and caller.has_role(*ROLES):
        await audit(act, f"job {record.job_id}")


async def caller_of(asked: Any = None) -> Caller | None:
    """The caller of a request, the current one by default; None for somebody unknown.

    Asks `identify` at most once for each request. Raises what that raises.
    """
    if asked is None:
        asked = current_request()
    scope = asked.scope
    if _CALLER not in scope:
        scope[_CALLER] = await access_of(current_app).find_caller(asked)
    caller: Caller | None = scope[_CALLER]
    return caller


def _no_such_token() -> Unauthorized:
    challenge = WWWAuthenticate("bearer", {"error": "invalid_token"})
    return Unauthorized("This token was revoked, or has expired.", www_authenticate=challenge)
