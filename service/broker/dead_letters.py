"""Shows, replays and drops dead letters: what the broker has given up on, kept for a person.

What is to be asked of Redis is written once, as generators that yield commands and are sent the
answers; `DeadLetters` runs them on a synchronous client, `AsyncDeadLetters` on an asyncio one.
"""

import json
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Final, TypeVar, cast

from kombu.utils.uuid import uuid
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from service.broker import messages
from service.broker.scripts import DEAD_SUFFIX, script
from service.results.model import is_job_id

T = TypeVar("T")
Asking = Generator[tuple[Any, ...], Any, T]

_CHUNK: Final = 50
# Kombu's defaults.
PRIORITY_STEPS: Final = (0, 3, 6, 9)
SEPARATOR: Final = "\x06\x16"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up on. `at` is in UTC; `record` is what lies in Redis."""

    id: str
    queue: str
    reason: str
    deliveries: int
    at: datetime
    job_id: str | None
    task: str | None
    message: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a queue's dead letters, newest first, and how many there are in all."""

    letters: tuple[DeadLetter, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Record:
    """A result record to be stored together with a replayed message; `lifetime` in seconds."""

    key: str
    value: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class Box:
    """Where to look: the queues, and Kombu's options where they differ from its defaults."""

    queues: tuple[str, ...] = ("celery",)
    prefix: str = ""
    priority_steps: tuple[int, ...] = PRIORITY_STEPS
    separator: str = SEPARATOR

    def key(self, queue: str) -> str:
        """The list of a queue's dead letters."""
        return f"{self.prefix}{queue}{DEAD_SUFFIX}"

    def waiting(self, queue: str) -> tuple[str, ...]:
        """The lists of a queue's jobs that wait, one for each priority."""
        name = f"{self.prefix}{queue}"
        return tuple(
            f"{name}{self.separator}{step}" if step else name for step in self.priority_steps
        )


def box_for(options: Mapping[str, Any], queues: Iterable[str]) -> Box:
    """The box of these queues, by Celery's `broker_transport_options`."""
    return Box(
        queues=tuple(queues),
        prefix=options.get("global_keyprefix", ""),
        priority_steps=tuple(options.get("priority_steps", PRIORITY_STEPS)),
        separator=options.get("sep", SEPARATOR),
    )


def decode(record: bytes | str) -> DeadLetter:
    """Read a record; raises ValueError if it is none of ours."""
    raw = record if isinstance(record, bytes) else record.encode("utf-8", "surrogateescape")
    try:
        fields = json.loads(raw.decode("utf-8", "surrogateescape"))
        message = str(fields["message"]).encode("utf-8", "surrogateescape")
        job = _job_id(message)
        return DeadLetter(
            id=job or sha1(raw).hexdigest()[:16],  # noqa: S324 - a name, not a secret
            queue=str(fields["queue"]),
            reason=_printable(str(fields["reason"])),
            deliveries=int(fields["deliveries"]),
            at=datetime.fromtimestamp(float(fields["at"]), UTC),
            job_id=job,
            task=_task(message),
            message=message,
            record=raw,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"This is not a dead letter: {error!r}") from error


def fresh(message: bytes) -> bytes:
    """The message as if it had just been published: never delivered, under a new tag."""
    try:
        payload = messages.read(message)
    except messages.UnreadableMessageError:
        return message
    properties = {k: v for k, v in payload["properties"].items() if k != messages.DELIVERIES}
    # A worker that has finished a message of the old tag would take this one for a copy.
    properties["delivery_tag"] = uuid()
    for part in (properties.get("delivery_info"), payload.get("headers")):
        if isinstance(part, dict):
            part.pop("redelivered", None)
    return json.dumps({**payload, "properties": properties}).encode()


def ask_page(box: Box, queue: str, offset: int, limit: int) -> Asking[Page]:
    """A page of a queue's dead letters."""
    total = yield "LLEN", box.key(queue)
    records = yield "LRANGE", box.key(queue), offset, offset + limit - 1
    return Page(tuple(decode(record) for record in records), int(total))


def ask_letter(box: Box, letter_id: str) -> Asking[DeadLetter | None]:
    """The newest dead letter with this id, in any of the queues."""
    for queue in box.queues:
        offset = 0
        while True:
            page = yield from ask_page(box, queue, offset, _CHUNK)
            for letter in page.letters:
                if letter.id == letter_id:
                    return letter
            offset += _CHUNK
            if offset >= page.total:
                break
    return None


def ask_replay(box: Box, letter: DeadLetter, record: Record | None) -> Asking[bool]:
    """Queue the message again; false if the letter is gone."""
    message = fresh(letter.message)
    target = letter.queue
    try:
        payload = messages.read(message)
        target = messages.list_of(letter.queue, payload, box.priority_steps, box.separator)
    except messages.UnreadableMessageError:
        pass  # as it was: on the queue itself
    keys = [box.key(letter.queue), box.prefix + target]
    arguments: list[Any] = [letter.record, message]
    if record is not None:
        keys.append(record.key)
        arguments += [record.value, record.lifetime]
    moved = yield "EVAL", script("replay"), len(keys), *keys, *arguments
    return bool(moved)


def ask_store(record: Record) -> Asking[None]:
    """Store a record by itself."""
    yield "SET", record.key, record.value, "EX", record.lifetime


def ask_drop(box: Box, letter: DeadLetter) -> Asking[bool]:
    """Forget a dead letter; false if it is gone already."""
    dropped = yield "LREM", box.key(letter.queue), 1, letter.record
    return bool(dropped)


def _job_id(message: bytes) -> str | None:
    """The job's id, if it is one that can be asked for."""
    found = messages.job_id(message)
    return found if found is not None and is_job_id(found) else None


def _printable(text: str) -> str:
    """The text without lone surrogates, which JSON can have and UTF-8 can't."""
    return text.encode(errors="replace").decode()


def _task(message: bytes) -> str | None:
    try:
        task = messages.read(message)["headers"]["task"]
    except (ValueError, TypeError, LookupError):
        return None
    return _printable(task) if isinstance(task, str) else None


class DeadLetters:
    """Dead letters on a synchronous client. Every method raises RedisError.

    `results` is a client of the results' Redis, where that is another one.
    """

    def __init__(
        self, client: Redis, box: Box | None = None, *, results: Redis | None = None
    ) -> None:
        self._client = client
        self._box = box or Box()
        self._results = results

    def page(self, queue: str, *, offset: int = 0, limit: int = 20) -> Page:
        """Some of a queue's dead letters, newest first."""
        return self._run(ask_page(self._box, queue, offset, limit))

    def get(self, letter_id: str) -> DeadLetter | None:
        """The newest dead letter with this id: its job's, or one made up for it."""
        return self._run(ask_letter(self._box, letter_id))

    def replay(self, letter: DeadLetter, *, record: Record | None = None) -> bool:
        """Queue it again with a fresh count of deliveries, and store `record`.

        In one step, or where the results are on another Redis, the record first: so that it is
        never written over what a worker has stored since.
        """
        if record is not None and self._results is not None:
            self._run(ask_store(record), self._results)
            record = None
        return self._run(ask_replay(self._box, letter, record))

    def drop(self, letter: DeadLetter) -> bool:
        """Forget it."""
        return self._run(ask_drop(self._box, letter))

    def _run(self, asking: Asking[T], client: Redis | None = None) -> T:
        client = client or self._client
        answer: Any = None
        while True:
            try:
                answer = client.execute_command(*asking.send(answer))  # type: ignore[no-untyped-call]  # by redis-py
            except StopIteration as end:
                return cast("T", end.value)


class AsyncDeadLetters:
    """The same on an asyncio client."""

    def __init__(
        self, client: AsyncRedis, box: Box | None = None, *, results: AsyncRedis | None = None
    ) -> None:
        self._client = client
        self._box = box or Box()
        self._results = results

    async def page(self, queue: str, *, offset: int = 0, limit: int = 20) -> Page:
        """Some of a queue's dead letters, newest first."""
        return await self._run(ask_page(self._box, queue, offset, limit))

    async def get(self, letter_id: str) -> DeadLetter | None:
        """The newest dead letter with this id: its job's, or one made up for it."""
        return await self._run(ask_letter(self._box, letter_id))

    async def replay(self, letter: DeadLetter, *, record: Record | None = None) -> bool:
        """Queue it again with a fresh count of deliveries, and store `record`, as above."""
        if record is not None and self._results is not None:
            await self._run(ask_store(record), self._results)
            record = None
        return await self._run(ask_replay(self._box, letter, record))

    async def drop(self, letter: DeadLetter) -> bool:
        """Forget it."""
        return await self._run(ask_drop(self._box, letter))

    async def _run(self, asking: Asking[T], client: AsyncRedis | None = None) -> T:
        client = client or self._client
        answer: Any = None
        while True:
            try:
                answer = await client.execute_command(*asking.send(answer))  # type: ignore[no-untyped-call]  # by redis-py
            except StopIteration as end:
                return cast("T", end.value)
