"""Reads the signatures in a message: the jobs that are to follow, and their errbacks; pure.

A signature is a dict, as Celery has it in JSON; those of a chain, a group or a chord hold others.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Signature = Mapping[str, Any]

# Options by which a signature is a part of a chord's header.
_PART: Final[tuple[str, ...]] = ("chord", "group_id", "group_index")
_NO_OPTIONS: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class LaterJob:
    """A job of a canvas that was not sent yet. `counts`: a chord that has begun waits for it."""

    id: str
    signature: Signature
    options: Mapping[str, Any]
    counts: bool


def later_jobs(signatures: Iterable[Signature]) -> Iterator[LaterJob]:
    """The jobs that would follow from the chain of a message, or from the body of a chord."""
    for signature in signatures:
        yield from _jobs_in(signature, _NO_OPTIONS, counts=True)


def errbacks_of(
    body: Signature, outer: Iterable[Signature] = ()
) -> Iterator[tuple[str, list[Any]]]:
    """The id and the errbacks of each job that the body of a chord is; most bodies are one."""
    errbacks: list[Any] = []
    for errback in (*outer, *_as_list(_options(body).get("link_error"))):
        if errback not in errbacks:
            errbacks.append(errback)
    if _kind(body) == "chord":
        yield from errbacks_of(body["kwargs"]["body"], errbacks)
    elif _kind(body) == "group":
        for member in _members(body):
            yield from errbacks_of(member, errbacks)
    elif job_id := _options(body).get("task_id"):
        yield job_id, errbacks


def _jobs_in(signature: Signature, outer: Mapping[str, Any], *, counts: bool) -> Iterator[LaterJob]:
    """`outer` has the options of the signature around this one."""
    options = {**outer, **_options(signature)}
    part = {name: options[name] for name in _PART if name in options}
    match _kind(signature):
        case "chord":
            for member in _members(signature["kwargs"]["header"]):
                yield from _jobs_in(member, _NO_OPTIONS, counts=False)
            yield from _jobs_in(signature["kwargs"]["body"], part, counts=counts)
        case "group":
            for member in _members(signature):
                yield from _jobs_in(member, part, counts=counts)
        case "chain":
            *steps, last = signature["kwargs"]["tasks"]
            for step in steps:
                yield from _jobs_in(step, _NO_OPTIONS, counts=False)
            yield from _jobs_in(last, part, counts=counts)
        case _:
            if job_id := options.get("task_id"):
                yield LaterJob(job_id, signature, options, counts and bool(options.get("chord")))


def _kind(signature: Signature) -> str | None:
    return signature.get("subtask_type")


def _options(signature: Signature) -> Mapping[str, Any]:
    return signature.get("options") or _NO_OPTIONS


def _members(group: Any) -> list[Signature]:
    return [*(group["kwargs"]["tasks"] if isinstance(group, Mapping) else group)]


def _as_list(value: Any) -> list[Any]:
    return [*value] if isinstance(value, (list, tuple)) else [value] if value else []
