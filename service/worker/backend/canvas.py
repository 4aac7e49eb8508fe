"""Ends the jobs of a canvas that can never run, since a job before them ended without success."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from traceback import format_exception
from typing import Any, Final

from celery import current_app, states
from celery.app.task import Context
from celery.exceptions import NotRegistered, TaskRevokedError
from celery.signals import task_unknown
from celery.utils.serialization import get_pickleable_exception

from service.broker.canvas import LaterJob, Signature, errbacks_of, later_jobs
from service.worker.backend.errback_calls import (
    ErrbackBackend,
    begin_to_end,
    has_record,
    terminated_later,
)
from service.worker.task.in_child import after_children, done_by_child

logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """How a job ends without success; `traceback` is a text, or what Celery has for one."""

    state: str
    error: Any
    traceback: Any = None

    def of_later(self, job_id: str) -> "End":
        """How the jobs after this one end: as Celery has it where it failed, else revoked."""
        if self.state == states.FAILURE:
            return self
        return End(states.REVOKED, TaskRevokedError(f"Dependency {job_id} raised {self.error!r}"))


@dataclass(slots=True)
class _CountDown:
    """One of Celery's calls that count a part of a chord, and what is to be done after it.

    The keys hold how many parts there are, and that somebody is about to send the body; `is_sent`
    tells that the body was sent.
    """

    size_key: Any
    claim_key: Any
    size: Any = None
    is_sent: bool = False
    end: Callable[[], None] | None = None


# The call that this context, or the one that it is a copy of, is in.
_count_down: Final[ContextVar[_CountDown | None]] = ContextVar("count_down", default=None)


class CanvasBackend(ErrbackBackend):
    """Ends the rest of a canvas, whichever way one of its jobs ends without success.

    Where Celery fails jobs for one before them, so does this; where it leaves them waiting for
    ever, they are revoked. All of this can be done twice, as when a worker died in the middle of
    it: a record of a job that has ended stays, and a chord counts each part once.
    """

    def store_ends(self, requests: Sequence[Any], end: End) -> None:
        """Store how these jobs end."""
        raise NotImplementedError

    def mark_as_failure(  # noqa: PLR0913, PLR0917  Celery's own
        self,
        task_id: str,
        exc: Exception,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Store how the job ends, also where its result is ignored; then end the rest."""
        if store_result or has_record(request):
            self.store_result(task_id, exc, state, traceback, request=request)
        if request is not None:
            self.end_rest(request, End(state, exc, traceback), call_errbacks=call_errbacks)

    def end_rest(self, request: Any, end: End, *, call_errbacks: bool = True) -> None:
        """End what can never run, now that the request's job has ended."""
        if request.chord:
            self.on_chord_part_return(request, end.state, end.error)
        if has_record(request) and (chain := getattr(request, "chain", None)):
            self._end_jobs([*later_jobs(reversed(chain))], {}, end.of_later(request.id))
        if call_errbacks and request.errbacks:
            self.call_errbacks_once(request, end.error, end.traceback)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """The same for a job that does not run to its end; Celery ends nothing but its chord."""
        self.mark_as_failure(
            task_id, TaskRevokedError(reason), None, request, store_result, True, state
        )

    def on_chord_part_return(self, request: Any, *args: Any, **options: Any) -> None:
        """Celery's own, in a thread where the caller runs on the event loop.

        A body that it finds can never run is ended after it: errbacks may need one of the few
        threads for blocking calls. Celery has forgotten the chord by then; as a copy of this part
        would have to end the body if this worker died now, what tells that all are in is put back.
        """
        if not request.group:
            return
        with terminated_later():
            self._count_part(request, args, options)

    def _count_part(self, request: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        key_of = partial(self.get_key_for_group, request.group)
        call = _CountDown(size_key=key_of(".s"), claim_key=key_of(".c"))
        count_down = partial(super().on_chord_part_return, request, *args, **options)
        token = _count_down.set(call)
        try:
            self.app.off_loop(lambda: self._count(call, request.group, count_down))
        finally:
            _count_down.reset(token)
        if call.end is not None:
            try:
                call.end()
                forget = partial(self._forget_chord, request.group)
                after_children(lambda: self.app.off_loop(forget))
            except Exception:
                logger.exception("The body of a chord could not be ended")

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> Any:
        """End the body of a chord, as its header has failed or was revoked.

        Celery's own ends nothing around the body, nor in it.
        """
        _, raised, trace = sys.exc_info()
        error: Any = raised if exc is None else exc
        cause = error.__cause__ or raised or error
        if isinstance(cause, TaskRevokedError):
            end = End(states.REVOKED, TaskRevokedError(str(error)))
        else:
            error = cause if callback.get("subtask_type") == "group" else error  # as Celery has it
            end = End(states.FAILURE, error, "".join(format_exception(type(error), error, trace)))
        call = _count_down.get()
        if call is None:
            self._end_body(callback, end)
        else:
            call.size, call.end = (
                self.client.get(call.size_key),
                partial(self._end_body, callback, end),
            )

    def body_is_sent(self) -> None:
        """Note that a job is sent, which in a count-down is the body of the chord."""
        if (call := _count_down.get()) is not None:
            call.is_sent = True

    def _count(self, call: "_CountDown", group: str, count_down: Callable[[], object]) -> None:
        count_down()
        if call.size is not None:
            ttl: Any = self.chord_expires  # type: ignore[attr-defined]  # not in celery-types
            with self.client.pipeline() as pipe:
                pipe.set(call.size_key, call.size, ex=ttl or None).delete(call.claim_key).execute()
        elif call.is_sent:
            self._forget_chord(group)

    def _forget_chord(self, group: str) -> None:
        """Drop what was kept for long, as its parts might have taken long; Celery drops less."""
        key_of: Any = partial(self.get_key_for_group, group)
        with self.client.pipeline() as pipe:
            pipe.delete(*map(key_of, (".s", ".j", ".t", ".d")))
            if expires := self.expires:  # type: ignore[attr-defined]  # not in celery-types
                pipe.expire(key_of(), expires)
            pipe.execute()

    def _end_body(self, body: Signature, end: End) -> None:
        """End the body of a chord; in prefork's parent a child does it, as errbacks run there.

        Not twice in one process: its main thread and the pool may both meet the end of a part.
        """
        if not begin_to_end(body["options"].get("task_id")):
            return
        sent = End(end.state, get_pickleable_exception(end.error), end.traceback)
        alone = partial(self._end_jobs, _jobs_from(body), {}, end)
        has_errbacks = any(errbacks for _, errbacks in errbacks_of(body))
        if not (has_errbacks and done_by_child(self.app, _end_body_here, (body, sent), alone)):
            self.end_body_here(body, end)

    def end_body_here(self, body: Signature, end: End) -> None:
        """Call the errbacks of the body, then store how it ends: who sees that can rely on them."""
        jobs = _jobs_from(body)
        requests = {job.id: _request(job) for job in jobs}
        for job_id, errbacks in errbacks_of(body):
            request = requests[job_id]
            request.errbacks = errbacks
            parent = self.app.current_worker_task
            before = len(parent.request.children) if parent else 0
            try:
                if errbacks:
                    self.call_errbacks_once(request, end.error, None)
            except Exception:
                logger.exception("The errbacks of job %s could not be called", job_id)
            if parent:
                request.children.extend(parent.request.children[before:])
        self._end_jobs(jobs, requests, end)

    def _end_jobs(self, jobs: Sequence[LaterJob], requests: Mapping[str, Any], end: End) -> None:
        """End jobs that were not sent; a chord that waits for one of them is told."""
        if not jobs:
            return
        ended = [requests.get(job.id) or _request(job) for job in jobs]
        self.store_ends(ended, end)
        for job, request in zip(jobs, ended, strict=True):
            if job.counts:
                self.on_chord_part_return(request, end.state, end.error)


def _jobs_from(body: Signature) -> list[LaterJob]:
    return [*later_jobs([body, *(body["options"].get("chain") or ())])]


def _end_body_here(body: Signature, end: End) -> None:
    """What a child of prefork's is told to do."""
    with terminated_later():
        backend: Any = current_app.backend
        backend.end_body_here(body, end)


@task_unknown.connect(dispatch_uid="service.worker.backend.canvas.task_unknown")
def _end_rest_of_unknown(sender: Any, message: Any, name: str, **_: Any) -> None:
    """End the rest after a job whose task this worker does not know: Celery fails the job alone."""
    *_, embedded = message.payload
    end = End(states.FAILURE, NotRegistered(name))
    sender.app.backend.end_rest(Context(message.headers, **embedded), end)


def _request(job: LaterJob) -> Context:
    """A request as Celery would have it for the job."""
    fields = {**job.signature, **job.options}
    return Context(
        fields, id=job.id, group=job.options.get("group_id"), delivery_info={}, errbacks=None
    )
