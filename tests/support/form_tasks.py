"""Tasks for the pages: one with an argument of every kind, and results that are hard to show."""

import asyncio
import logging
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from service import TaskBlueprint, report_progress

tasks = TaskBlueprint("forms")


@tasks.task(public=True, show_arguments=True)
async def everything(  # noqa: PLR0913, PLR0917  one of each
    count: int,
    share: float,
    name: str,
    colour: Literal["red", "green"],
    level: Annotated[int, Meta(ge=1, le=10)] = 3,
    loud: bool = True,
    numbers: list[int] | None = None,
    words: list[str] | None = None,
    more: dict[str, int] | None = None,
) -> list[object]:
    """Give back whatever was given."""
    return [count, share, name, colour, level, loud, numbers, words, more]


@dataclass
class Address:
    street: str
    number: int


@dataclass
class Guest:
    name: str
    deposit: Decimal
    address: Address
    kind: Literal["child", "grown-up"] = "grown-up"


@tasks.task(public=True, show_arguments=True)
async def register(guest: Guest) -> str:
    """Say who came, from an object with another in it."""
    return f"{guest.name}, {guest.kind}, of {guest.address.street} {guest.address.number + 1}"


@tasks.task(public=True)
async def secret(word: str) -> str:
    """Keep the argument to itself."""
    return word.upper()


@tasks.task(bind=True, public=True, show_arguments=True)
async def again(self: Any, message: str = "not yet") -> None:
    """Fail, at once once more, and then in ten minutes."""
    raise self.retry(exc=ValueError(message), countdown=600 if self.request.retries else 0)


@tasks.task(public=True, show_arguments=True)
async def steps(total: int = 10, pause: float = 0.1) -> int:
    """Go step by step."""
    for step in range(total):
        report_progress(step, total, f"step {step} of {total}")
        await asyncio.sleep(pause)
    return total


@tasks.task(public=True, show_arguments=True)
async def until(path: str) -> int:
    """Go step by step until there is a file, so that a test decides when that is."""
    step = 0
    while not await asyncio.to_thread(Path(path).exists):
        step += 1
        report_progress(step % 100, 100, f"step {step}")
        logging.getLogger("forms").info("took step %d", step)
        await asyncio.sleep(0.1)
    return step


@tasks.task(public=True)
async def big(letters: int) -> str:
    """Make a long result."""
    return "x" * letters


@tasks.task(public=True, show_arguments=True)
async def markup(text: str = "<script>document.title = 'owned'</script>") -> str:
    """Make a result, progress and an error of what would be code if it were not escaped."""
    report_progress(1, 2, text)
    return text


@tasks.task(public=True, show_arguments=True)
async def failing_markup(text: str = "<img src=x onerror=\"document.title = 'owned'\">") -> None:
    """Fail with it."""
    raise ValueError(text)
