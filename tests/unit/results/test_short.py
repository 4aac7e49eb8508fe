"""How much of an error is kept."""

import json

from service.results.record import encode_job
from service.results.short import shorten

TEXT = "a" * 250_000


def test_a_short_text_stays_as_it_is() -> None:
    """And of a long one both ends, by which a reader knows it."""
    assert shorten("abc", 3) == "abc"
    assert shorten("begin" + TEXT + "end", 10) == "begin … (249998 characters cut) … aaend"


def test_a_failed_jobs_record_has_its_arguments_once_at_most() -> None:
    """They come back in the error's message, and in its traceback with that, for a day."""
    error = {"exc_type": "RuntimeError", "exc_message": [TEXT], "exc_module": "builtins"}
    for state in ("FAILURE", "RETRY"):
        record = encode_job(
            "job",
            state,
            error,
            traceback=f"Traceback\nRuntimeError: {TEXT}",
            children=(),
            request=None,
            extended={},
            arguments={"message": "x"},
            max_bytes=1_048_576,
        )
        assert len(record) < 30_000
        told = json.loads(record)
        assert told["arguments"] == {"message": "x"}
        assert told["traceback"].startswith("Traceback\nRuntimeError: aaa")
