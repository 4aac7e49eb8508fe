"""Decodes JSON as Kombu does, in a quarter of the time."""

from typing import Any, Final

import msgspec
from kombu import serialization
from kombu.utils.json import dumps, loads

_JSON: Final = "json"
_CONTENT_TYPE: Final = "application/json"


def decode(document: Any) -> Any:
    """What Kombu's own decoder makes of the document; raises what it raises."""
    if isinstance(document, bytes | str):
        # Kombu calls a hook for every object, to rebuild what `__type__` names.
        marked = b"__type__" if isinstance(document, bytes) else "__type__"
        if marked not in document:  # type: ignore[operator]  # both are of one type
            try:
                return msgspec.json.decode(document)
            except (msgspec.MsgspecError, ValueError):
                pass  # it is stricter (about NaN, for one), and words errors in its own way
    return loads(document)


def use_in_celery() -> None:
    """Have Celery's worker, which decodes each body twice, do it this way.

    Kombu lets a serializer be registered under a name that it knows already.
    """
    serialization.register(
        _JSON, dumps, decode, content_type=_CONTENT_TYPE, content_encoding="utf-8"
    )
