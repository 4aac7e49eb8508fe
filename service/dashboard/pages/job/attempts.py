"""The attempts of a job: those that were noted beside its record, and the one in it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.dashboard.pages.job.frames import Trace, read_trace
from service.parts import Parts
from service.redis.bounded import bounded
from service.results.decoding import moment_of
from service.results.model import State
from service.results.store import StoredRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One attempt: its number from 1, how it ended, and with which error, if there was one."""

    number: int
    word: str
    worker: str = ""
    queue: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    trace: Trace | None = None
    is_bad: bool = False

    @property
    def seconds(self) -> float | None:
        """How long it ran; None where that is unknown."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


async def attempts_of(
    parts: Parts, record: StoredRecord, fields: Mapping[str, Any]
) -> list[AttemptView]:
    """All attempts that are known, oldest first. Raises ResultsUnavailableError."""
    trace = trace_in(fields.get("traceback"))
    return [*await _noted(parts, record, fields), *_last_attempt(record, fields, trace)]


async def _noted(
    parts: Parts, record: StoredRecord, fields: Mapping[str, Any]
) -> list[AttemptView]:
    """The attempts before the present one, or the last."""
    if not fields.get("attempts"):
        return []
    async with bounded(parts.settings.redis_timeout):
        stored: Any = await parts.redis.lrange(parts.keys.attempts(record.job_id), 0, -1)
    views: list[AttemptView] = []
    first = max(1, int(fields["attempts"]) - len(stored) + 1)
    for number, text in enumerate(stored, first):
        with suppress(ValueError):
            attempt = json.loads(text.decode(errors="replace"))
            is_lost = attempt.get("state") != State.RETRY.value
            kind, message = text_in(attempt.get("type")), text_in(attempt.get("message"))
            views.append(
                AttemptView(
                    number=number,
                    word="its worker was lost" if is_lost else "failed, and was tried again",
                    worker=text_in(attempt.get("worker")),
                    queue=text_in(attempt.get("queue")),
                    started_at=moment_of(attempt.get("started_at")),
                    ended_at=moment_of(attempt.get("ended_at")),
                    error=f"{kind}: {message}" if kind and message else kind or message,
                    trace=trace_in(attempt.get("traceback")),
                    is_bad=True,
                )
            )
    return views


def _last_attempt(
    record: StoredRecord, fields: Mapping[str, Any], trace: Trace | None
) -> list[AttemptView]:
    result, error = record.result, record.result.error
    if result.started_at is None:
        return []
    word = {
        State.SUCCESS: "finished",
        State.FAILURE: "failed",
        State.REVOKED: "was cancelled",
        State.RETRY: "failed, and is to be tried again",
    }.get(result.state, "runs")
    is_bad = result.state in {State.FAILURE, State.RETRY}
    shown = error if is_bad else None
    return [
        AttemptView(
            number=result.attempt,
            word=word,
            worker=text_in(fields.get("worker")),
            queue=text_in(fields.get("queue")),
            started_at=result.started_at,
            ended_at=result.finished_at or moment_of(fields.get("ended_at")),
            error=f"{shown.type}: {shown.message}" if shown else "",
            trace=trace if is_bad else None,
            is_bad=is_bad,
        )
    ]


def trace_in(text: object) -> Trace | None:
    return read_trace(text) if isinstance(text, str) and text.strip() else None


def text_in(value: object) -> str:
    """The value, if it is a text; else an empty one."""
    return value if isinstance(value, str) else ""
