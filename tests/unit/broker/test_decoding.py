"""Our decoder gives what Kombu's does, for whatever a message may hold."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads

from service.broker.messages import decode_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_any_json_is_decoded_as_kombu_does(value: Any) -> None:
    """It takes the place of Kombu's, which nobody may notice."""
    for document in (json.dumps(value), json.dumps(value).encode()):
        assert decode_json(document) == loads(document)


@pytest.mark.parametrize("document", ["NaN", "[Infinity]", '"\\ud800"', "1e400", "2" * 40])
def test_what_the_fast_decoder_refuses_is_left_to_kombus(document: str) -> None:
    """Python's JSON takes more than the standard allows, and so do Celery's workers."""
    assert repr(decode_json(document)) == repr(loads(document))


def test_what_has_a_type_is_rebuilt() -> None:
    """Kombu writes dates and UUIDs as objects that name their type."""
    value = {"at": uuid.uuid4()}
    assert decode_json(dumps(value)) == value
    assert decode_json(dumps(value).encode()) == value


@pytest.mark.parametrize("document", ["", "{", "[1,]", '{"a": 1} x'])
def test_what_is_no_json_is_refused_in_pythons_words(document: str) -> None:
    """What a person reads of a dead letter stays as it was."""
    with pytest.raises(json.JSONDecodeError):
        decode_json(document)
