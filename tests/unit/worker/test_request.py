"""What a worker keeps of a message is all that anybody asks of it, once."""

from collections.abc import Mapping
from typing import Any

import pytest
from celery.app.task import Context
from celery.worker.request import Request as CeleryRequest
from kombu import Connection
from kombu.transport.virtual import Message

from service import create_app, get_celery
from service.jobs.celery.app import QuartCelery
from service.worker.task.request import Request

ID = "an-id-of-a-job"
OURS = {"queued_at": "then"}


def message(more: Mapping[str, Any]) -> Any:
    """A message as Celery's clients make them, with more headers."""
    amqp: Any = get_celery(create_app()).amqp
    properties = {
        "correlation_id": ID,
        "reply_to": "whom",
        "delivery_tag": "tag",
        "delivery_info": {"exchange": "", "routing_key": "celery", "consumer_tag": "c"},
    }
    channel: Any = Connection("memory://").channel()
    return Message(
        {
            "body": '[[1], {"b": 2}, {"callbacks": null, "errbacks": null}]',
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {**amqp.as_task_v2(ID, "demo.my_add", (1,), {"b": 2}).headers, **more},
            "properties": properties,
        },
        channel=channel,
        accept=["application/json"],
    )


class Events:
    """Notes the types of what it is to send."""

    def __init__(self, groups: set[str]) -> None:
        self.groups, self.sent = groups, list[str]()
        self.enabled = True

    def send(self, kind: str, **_: object) -> None:
        self.sent.append(kind)


def made(kind: Any, app: QuartCelery, more: Mapping[str, Any] = OURS) -> Any:
    task = app.tasks["demo.my_add"]
    return kind(message(more), app=app, task=task, hostname="here", decoded=False)


def test_it_says_what_celerys_own_says() -> None:
    """To the worker, to the tracer, and to whoever asks the message."""
    app = get_celery(create_app())
    ours, theirs = made(Request, app), made(CeleryRequest, app)
    assert ours.request_dict == {**theirs.request_dict, "headers": OURS}
    assert ours.info() == theirs.info()
    for name in ("id", "root_id", "args", "kwargs", "errbacks", "time_limits", "reply_to"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.message.headers.items() >= theirs.message.headers.items()
    assert ours.message.payload == theirs.message.payload
    assert ours.message.delivery_info == theirs.message.delivery_info


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, None),
        (OURS, OURS),
        (
            {"compression": "zlib", "stamped_headers": ["a"], "stamps": {"a": 1}, "own": 2},
            {"own": 2},
        ),
        ({"headers": {"own": 1}}, {"own": 1}),
        ({"headers": None, "own": 1}, {"own": 1}),
    ],
)
def test_a_body_sees_the_headers_that_celery_would_show_it(
    more: dict[str, Any], found: dict[str, Any] | None
) -> None:
    """They go along with its retries."""
    app = get_celery(create_app())
    ours, theirs = made(Request, app, more), made(CeleryRequest, app, more)
    assert vars(Context(ours.request_dict)) == vars(Context(theirs.request_dict))
    assert Context(ours.request_dict).headers == found


def test_the_tracer_gets_what_was_decoded() -> None:
    """It decodes nothing where no content type is named."""
    ours = made(Request, get_celery(create_app()))
    assert ours.content_type is None
    assert ours.body is ours.message.payload
    assert ours.message.body is None


def test_nothing_is_left_to_a_dict() -> None:
    """What Celery sets on every request has a slot; a new version may have more to set."""
    ours = made(Request, get_celery(create_app()))
    assert not vars(ours)


def test_nothing_of_rabbitmq_goes_along_with_a_retry() -> None:
    """RabbitMQ drops a message that says by `x-death` where it was delayed before, as one that goes
    in circles; and the exchange that it came from last is none that jobs are sent to.
    """
    app = get_celery(create_app({"SERVICE_CELERY__BROKER_URL": "amqp://127.0.0.1:1//"}))
    received = message({**OURS, "x-death": [{"count": 1}], "x-delivery-count": 2})
    received.delivery_info["exchange"] = "celery_delayed_0"
    received.delivery_info["routing_key"] = "0." * 27 + "1.shop"
    task = app.tasks["demo.my_add"]
    request = Request(received, app=app, task=task, hostname="here", decoded=False)
    context = Context(request.request_dict)
    assert context.headers == OURS
    options = task.signature_from_request(context).options
    assert options["queue"] == "shop"
    assert not options.keys() & {"exchange", "routing_key"}


@pytest.mark.parametrize(
    ("groups", "sent"), [({"worker"}, []), ({"worker", "task"}, ["task-x"]), (set(), ["task-x"])]
)
def test_events_of_jobs_are_made_only_where_they_are_asked_for(
    groups: set[str], sent: list[str]
) -> None:
    """By `-E`, or `celery control enable_events`, which adds their group to that of heartbeats."""
    app, events = get_celery(create_app()), Events(groups)
    task = app.tasks["demo.my_add"]
    request: Any = Request(message(OURS), app=app, task=task, hostname="here", eventer=events)
    request.send_event("task-x")
    assert events.sent == sent
