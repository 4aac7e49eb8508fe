"""Recognises the second try of one publish, so that it keeps the first one's delivery tag."""

import threading
from collections import OrderedDict
from typing import Any, Final

_REMEMBERED: Final = 1000


class Publishes:
    """Remembers which properties got which tag; Kombu passes the same dict to each try.

    Only the very dict counts: somebody who publishes a received message again, with a copy of
    its properties, means a second message.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def tag_of(self, properties: dict[str, Any]) -> str | None:
        """The tag of an earlier try of this publish."""
        tag = properties.get("delivery_tag")
        with self._lock:
            return tag if tag is not None and self._seen.get(tag) is properties else None

    def remember(self, properties: dict[str, Any]) -> None:
        """A publish with these properties is under way."""
        with self._lock:
            self._seen[properties["delivery_tag"]] = properties
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def forget(self, properties: dict[str, Any]) -> None:
        """The publish has arrived: there will be no other try."""
        with self._lock:
            self._seen.pop(properties.get("delivery_tag", ""), None)
