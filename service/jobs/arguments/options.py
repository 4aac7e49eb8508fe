"""The options of one call, and their checks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack, cast

from service.errors import InvalidJobIdError
from service.results.marks import MAX_TAGS, TAGS, is_tag, tags_in
from service.results.model import is_job_id

_HIGHEST_PRIORITY: Final = 9
_MAX_OWNER: Final = 255  # characters


class SendOptions(TypedDict, total=False):
    """Celery's options of a call; one that is None or left out is up to the task and the routes.

    `countdown` is in seconds, `expires` in seconds or a moment, `priority` from 0 to 9 (on Redis
    0 is served first). Enqueueing the same `job_id` again makes no second job. A moment without an
    offset is UTC, or with Celery's `enable_utc` off in its `timezone`. `owner` is the id of the
    caller who alone may see the job over HTTP, administrators aside. `tags` are a few short words
    by which operators find the job.
    """

    countdown: float | None
    eta: datetime | None
    queue: str | None
    priority: int | None
    expires: float | datetime | None
    job_id: str | None
    headers: Mapping[str, Any] | None
    owner: str | None
    tags: Sequence[str] | None


OPTION_NAMES: Final = frozenset(SendOptions.__annotations__)
NO_OPTIONS: Final[SendOptions] = {}


def send_options(**options: Unpack[SendOptions]) -> SendOptions:
    """Check options, and leave out those that are None.

    Raises TypeError for an unknown name, ValueError and InvalidJobIdError for a wrong value.
    """
    if unknown := options.keys() - OPTION_NAMES:
        raise TypeError(f"There is no option {min(unknown)!r}, only {sorted(OPTION_NAMES)}.")
    given = cast("SendOptions", {k: value for k, value in options.items() if value is not None})
    job_id = given.get("job_id")
    if job_id is not None and not is_job_id(job_id):
        raise InvalidJobIdError(job_id)
    if "countdown" in given and "eta" in given:
        raise ValueError("Give `countdown` or `eta`, not both.")
    if not 0 <= (given.get("priority") or 0) <= _HIGHEST_PRIORITY:
        raise ValueError("`priority` is a whole number from 0 to 9.")
    if "owner" in given:
        check_owner(given["owner"])
    if (tags := given.pop("tags", None)) is not None:
        given["headers"] = {**(given.get("headers") or {}), TAGS: _checked_tags(tags)}
    return given


def tags_of(options: SendOptions) -> tuple[str, ...]:
    """The tags that checked options give a job."""
    return tags_in((options.get("headers") or {}).get(TAGS))


def _checked_tags(tags: object) -> list[str]:
    """The tags, each once. Raises ValueError."""
    if isinstance(tags, str) or not isinstance(tags, Sequence) or not all(map(is_tag, tags)):
        raise ValueError("`tags` are texts of 1 to 50 printable characters, such as ['import'].")
    if len(found := list(dict.fromkeys(tags))) > MAX_TAGS:
        raise ValueError(f"A job has at most {MAX_TAGS} tags, not {len(found)}.")
    return found


def check_owner(owner: object) -> None:
    """Raise ValueError for what cannot be the id of a job's owner."""
    if not isinstance(owner, str) or not 0 < len(owner) <= _MAX_OWNER:
        raise ValueError(f"The id of an owner is a text of 1 to {_MAX_OWNER} characters.")
