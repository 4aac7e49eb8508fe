"""Makes JSON of values by their annotation, and values of that JSON again.

choose.py         the codec of an annotation; refuses one whose values no message can carry
msgspec_codec.py  the codec of what msgspec knows: dataclasses, Structs, enums, dates, lists, …
models.py         the codec of what pydantic knows; imports pydantic only where an annotation has it
unions.py         unions that msgspec does not take, and classes that stand for these
hints.py          reads the annotations of a function
base.py           what all codecs have in common, and the codec of `Any`

`check` is for values that a caller gives in Python, `decode` for JSON: of a client of HTTP, of a
message, of a record. A value of a class is sent as the JSON that its schema describes. Dates,
times, UUIDs, decimals and bytes that are in no class are sent as Kombu's own JSON does it, which
every Celery reads; in a class they are text.
"""

from service.jobs.codecs.base import (
    ANY,
    KOMBU_TYPES,
    Codec,
    LeftToCelery,
    MisfitError,
    UncarriableError,
    is_encodable,
)
from service.jobs.codecs.choose import codec_for
from service.jobs.codecs.hints import hints_of, is_model
from service.jobs.codecs.msgspec_codec import encode_value, other_schema

__all__ = [
    "ANY",
    "KOMBU_TYPES",
    "Codec",
    "LeftToCelery",
    "MisfitError",
    "UncarriableError",
    "codec_for",
    "encode_value",
    "hints_of",
    "is_encodable",
    "is_model",
    "other_schema",
]
