"""Which jobs can never run when one before them has failed, read from a message's signatures."""

import json
from typing import Any

import pytest
from celery import Celery, chain, chord, group

from service.broker.canvas import errbacks_of, later_jobs

app = Celery("canvas", set_as_current=False)


def sig(name: str, **options: Any) -> Any:
    return app.signature(name, app=app, task_id=f"id-{name}", **options)


def in_message(signature: Any) -> Any:
    """As a worker finds it."""
    return json.loads(json.dumps(signature))


def read(*signatures: Any) -> list[tuple[str, bool]]:
    return [(job.id[3:], job.counts) for job in later_jobs(map(in_message, signatures))]


def around(errbacks: list[Any]) -> Any:
    return {"link_error": errbacks}  # celery-types: one signature


BODY = {"task": "outer", "options": {"task_id": "outer"}}


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (sig("a"), [("a", False)]),
        (sig("a", chord=BODY), [("a", True)]),
        (group(sig("a"), sig("b", chord=BODY)), [("a", False), ("b", True)]),
        (group(sig("a"), chord=BODY), [("a", True)]),
        (chain(sig("a"), sig("b", chord=BODY)), [("a", False), ("b", True)]),
        (
            chord([sig("a", chord=sig("c")), sig("b")], sig("c", chord=BODY)),
            [("a", False), ("b", False), ("c", True)],
        ),
        (
            chord([chord([sig("a")], sig("b", chord=BODY))], group(sig("c"), sig("d"))),
            [("a", False), ("b", False), ("c", False), ("d", False)],
        ),
        (app.signature("without an id", app=app), []),
    ],
)
def test_every_job_in_a_signature_is_found(signature: Any, expected: list[Any]) -> None:
    """Only those that a chord outside of it waits for count there."""
    assert read(signature) == expected


def test_errbacks_are_those_of_the_jobs_that_a_body_is() -> None:
    """With those of what is around a job; each once."""
    one, two = ({"task": name} for name in ("one", "two"))
    assert [*errbacks_of(in_message(sig("a")))] == [("id-a", [])]
    assert [*errbacks_of(in_message(sig("a", link_error=[one, one])))] == [("id-a", [one])]
    body = group(sig("a", link_error=[one]), sig("b"), **around([one, two]))
    found = {
        job_id: sorted(e["task"] for e in errbacks)
        for job_id, errbacks in errbacks_of(in_message(body))
    }
    assert found == {"id-a": ["one", "two"], "id-b": ["one", "two"]}
    nested = chord([sig("a", link_error=[two])], sig("b"), **around([one]))
    assert [*errbacks_of(in_message(nested))] == [("id-b", [one])]
