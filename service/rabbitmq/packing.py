"""Packs messages that differ in a few headers only: what all of them have is packed once.

The bytes are those that py-amqp makes. Packing all of a message takes most of the time to send it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from struct import Struct, pack
from typing import Any, Final

from amqp import spec
from amqp.serialization import dumps

PUBLISH_FORM: Final = "Bssbb"  # how the arguments of basic.publish are packed
_END: Final = b"\xce"  # of a frame
# The frame of a method up to its content; then its end, and that of the properties, up to them;
# then its end, and that of the body.
_METHOD: Final = Struct(">BHI")
_PROPERTIES: Final = Struct(">BBHIHHQ")
_BODY: Final = Struct(">BBHI")
_BEFORE_PROPERTIES: Final = 12  # bytes of their frame's content
_IN_FRAMES: Final = 40  # bytes, at most, that three frames have beside their contents
_MARK: Final = "\x00%s\x00"  # stands for the value of a gap: no header has such a text
_PACKED_MARK: Final = re.compile(rb"\x00\x00\x00.\x00([\w-]+)\x00", re.DOTALL)
# AMQP's properties, in their order, around the headers: their names, and how py-amqp packs them.
_BEFORE: Final = (("content_type", "s"), ("content_encoding", "s"))
_BETWEEN: Final = (("delivery_mode", "o"), ("priority", "o"))
_AFTER: Final = (("reply_to", "s"),)


class PackedMessage:
    """Stands for py-amqp's message; `method` is basic.publish with its arguments."""

    __slots__ = ("_job_id", "_properties", "body", "method")

    def __init__(self, method: bytes, properties: bytes, body: bytes, job_id: str) -> None:
        self.method, self.body = method, body
        self._properties, self._job_id = properties, job_id

    @property
    def properties(self) -> dict[str, str]:
        """The one by which a message that comes back is known."""
        return {"correlation_id": self._job_id}

    @property
    def size(self) -> int:
        """How many bytes its frames have, at most."""
        return len(self.method) + len(self._properties) + len(self.body) + _IN_FRAMES

    def frames(self, channel: int) -> bytes:
        """What publishes it on a channel, with all of its body in one frame."""
        size, content = len(self.body), _BEFORE_PROPERTIES + len(self._properties)
        return b"".join(
            (
                _METHOD.pack(1, channel, len(self.method)),
                self.method,
                _PROPERTIES.pack(0xCE, 2, channel, content, spec.Basic.CLASS_ID, 0, size),
                self._properties,
                _BODY.pack(0xCE, 3, channel, size),
                self.body,
                _END,
            )
        )

    def _serialize_properties(self) -> bytes:
        return self._properties


@dataclass(frozen=True, slots=True)
class PackedTemplate:
    """A packed message with gaps in its headers, each of which has a text."""

    method: bytes
    begin: bytes
    headers: tuple[bytes, ...]  # around the gaps
    gaps: tuple[str, ...]  # their names
    size: int  # of the headers without what is in the gaps
    between: bytes
    end: bytes

    @classmethod
    def of(
        cls, message: Any, arguments: tuple[Any, ...], gaps: Collection[str]
    ) -> "PackedTemplate | None":
        """Make one of py-amqp's message, and of the arguments of the method that publishes it.

        None where its properties are not as Celery's are.
        """
        given, packed = message.properties, message._serialize_properties()  # noqa: SLF001  pinned
        headers = dict(given["application_headers"])
        with_marks = {k: _MARK % k if k in gaps else v for k, v in headers.items()}
        pieces = _PACKED_MARK.split(_packed("F", with_marks)[4:])
        template = cls(
            method=pack(">HH", *spec.Basic.Publish) + _packed(PUBLISH_FORM, *arguments),
            begin=packed[:2] + _packed_each(given, _BEFORE),
            headers=tuple(pieces[::2]),
            gaps=tuple(name.decode() for name in pieces[1::2]),
            size=sum(map(len, pieces[::2])) + 4 * len(pieces[1::2]),
            between=_packed_each(given, _BETWEEN),
            end=_packed_each(given, _AFTER),
        )
        filled = template.fill(headers, b"", str(given.get("correlation_id")))
        return template if filled._serialize_properties() == packed else None  # noqa: SLF001

    def fill(self, headers: Mapping[str, str], body: bytes, job_id: str) -> PackedMessage:
        """The message with these headers in its gaps."""
        parts, size = [self.begin, b"", self.headers[0]], self.size
        for name, after in zip(self.gaps, self.headers[1:], strict=True):
            value = headers[name].encode(errors="surrogatepass")  # as py-amqp does
            size += len(value)
            parts += (len(value).to_bytes(4, "big"), value, after)
        parts[1] = size.to_bytes(4, "big")
        correlation_id = job_id.encode()
        parts += (self.between, bytes((len(correlation_id),)), correlation_id, self.end)
        return PackedMessage(self.method, b"".join(parts), body, job_id)


def _packed(form: str, *values: Any) -> bytes:
    return bytes(dumps(form, values))


def _packed_each(given: Mapping[str, Any], names: tuple[tuple[str, str], ...]) -> bytes:
    return b"".join(
        _packed(form, given[name]) for name, form in names if given.get(name) is not None
    )
