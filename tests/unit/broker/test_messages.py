"""What can be read out of a message, and what is put aside."""

import json
import re
from importlib import resources
from types import SimpleNamespace

import pytest

from service.broker import messages
from service.broker.checks.findings import Answers, check
from service.broker.checks.rights import COMMANDS
from service.broker.dead_letters.model import DeadLetter, as_published_anew
from service.broker.delivery import Delivery
from service.broker.leases.in_flight import InFlight, Outcome
from service.broker.transport.publish import Publishes
from service.broker.transport.transport import SecureTransport
from service.redis.keys import BrokerKeys, broker_keys


def _message(**properties: object) -> bytes:
    payload = {"body": "", "headers": {"id": "job", "task": "t"}, "properties": properties}
    return json.dumps(payload).encode()


def _delivery(tag: str = "t@1-1", queue: str = "celery") -> Delivery:
    return Delivery(tag, queue, _message(), tag.partition("@")[0])


@pytest.mark.parametrize("depth", [100, 400])
def test_json_of_a_sane_depth_is_let_through(depth: int) -> None:
    """Stock Celery manages that much."""
    messages.check_depth(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize("depth", [401, 2000, 100_000])
def test_json_that_nests_too_deep_is_refused(depth: int) -> None:
    """It ends prefork workers from 500 levels on."""
    with pytest.raises(messages.UnreadableMessageError, match="levels deep"):
        messages.check_depth(b"[" * depth + b"]" * depth)


def test_brackets_in_texts_and_side_by_side_are_no_depth() -> None:
    """Only nesting costs stack."""
    messages.check_depth(json.dumps(["[" * 1000, '"[' * 1000, "\\"]).encode())
    messages.check_depth(json.dumps([[]] * 5000).encode())


def test_a_message_that_goes_back_remembers_how_often_it_was_delivered() -> None:
    """The count travels with the message, so no key is left behind when it is done."""
    payload = messages.read(_message(delivery_info={"exchange": ""}, priority=3))
    again = messages.read(messages.redelivered(payload, 2).encode())
    assert messages.deliveries(payload) == 0
    assert messages.deliveries(again) == 2
    assert again["headers"]["redelivered"] is True
    assert again["properties"]["delivery_info"]["redelivered"] is True


@pytest.mark.parametrize(
    ("priority", "expected"),
    [(0, "q"), (2, "q"), (3, "q\x06\x163"), (9, "q\x06\x169"), (99, "q\x06\x169"), ("x", "q")],
)
def test_a_messages_list_is_the_one_that_kombu_would_choose(
    priority: object, expected: str
) -> None:
    """Stock workers look for it there."""
    payload = messages.read(_message(priority=priority))
    assert messages.list_of("q", payload, (0, 3, 6, 9), "\x06\x16") == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (_message(), "job"),
        (b"not json", None),
        (b"[]", None),
        (b'{"headers": {"id": 5}}', "5"),
        (b'{"headers": {"id": "deep", "x":' + b"[" * 5000 + b"]" * 5000 + b"}}", "deep"),
        (b'{"headers": null, "body": "{\\"id\\": \\"old\\"}", "properties": {}}', "old"),
    ],
)
def test_a_jobs_id_is_found_where_there_is_one(message: bytes, expected: str | None) -> None:
    """Somebody may be waiting for it."""
    assert messages.job_id(message) == expected


def test_the_first_word_on_a_delivery_counts() -> None:
    """Celery may reject what it has acknowledged, and the other way round."""
    in_flight = InFlight()
    assert in_flight.add(_delivery(), lambda tag: False)
    in_flight.dispose(Outcome.ACK, "t@1-1", "")
    in_flight.dispose(Outcome.REQUEUE, "t@1-1", "")
    assert [each.outcome for each in in_flight.dispositions()] == [Outcome.ACK]


def test_what_was_finished_here_is_not_run_again_when_it_comes_back() -> None:
    """Its ack was lost: all that is left to do is to say it again."""
    in_flight = InFlight()
    in_flight.add(_delivery("t@1-1"), lambda tag: False)
    in_flight.dispose(Outcome.ACK, "t@1-1", "")
    assert not in_flight.add(_delivery("t@2-1"), lambda tag: False)
    assert {each.delivery.tag for each in in_flight.dispositions()} == {"t@1-1", "t@2-1"}


def test_what_still_runs_here_ends_its_second_delivery_too() -> None:
    """The lease was lost in an outage, the job went on, and the message came back to us."""
    in_flight = InFlight()
    in_flight.add(_delivery("t@1-1"), lambda tag: True)
    in_flight.lose("t@1-1")
    assert not in_flight.add(_delivery("t@2-1"), lambda tag: True)
    assert in_flight.orphans({"t@1-1"}, lambda request: False) == set()
    in_flight.dispose(Outcome.ACK, "t@1-1", "")
    assert {each.delivery.tag for each in in_flight.dispositions()} == {"t@1-1", "t@2-1"}


def test_of_a_job_that_runs_no_message_is_kept() -> None:
    """Nor is it parked, as only what can be delivered again from memory may be."""
    in_flight = InFlight()
    in_flight.add(_delivery("t@1-1"), lambda tag: False)
    in_flight.add(_delivery("u@1-2"), lambda tag: False)
    in_flight.drop_message("t@1-1", "job")
    in_flight.park(["t@1-1", "u@1-2"], {})
    assert [delivery.tag for delivery in in_flight.unpark()] == ["u@1-2"]
    in_flight.dispose(Outcome.REQUEUE, "t@1-1", "")
    (disposition,) = in_flight.dispositions()
    delivery = disposition.delivery
    assert (delivery.message, delivery.job, delivery.key) == (b"", "job", ("t", "celery"))


def test_copies_of_a_message_in_two_queues_are_two_jobs() -> None:
    """An exchange may send one message to several queues."""
    in_flight = InFlight()
    assert in_flight.add(_delivery("t@1-1", "one"), lambda tag: True)
    assert in_flight.add(_delivery("t@1-2", "two"), lambda tag: True)


def test_acks_are_sent_once_unless_nobody_confirms_them() -> None:
    """A take carries them; if its answer is lost, the leases' thread says them again."""
    in_flight = InFlight()
    in_flight.add(_delivery(), lambda tag: False)
    in_flight.dispose(Outcome.ACK, "t@1-1", "")
    assert in_flight.acks_to_send(10) == {"t@1-1": False}
    assert in_flight.acks_to_send(10) == {}
    assert in_flight.acks_to_send(10, sent_before=float("inf")) == {"t@1-1": True}
    assert len(in_flight.dispositions()) == 1
    assert in_flight.forget(["t@1-1"]) == {"t@1-1"}
    assert in_flight.forget(["t@1-1"]) == set()
    assert in_flight.tags() == []


def test_a_second_try_of_a_publish_is_known_by_its_own_properties() -> None:
    """A copy of them, as of a message that is moved, is another publish."""
    publishes = Publishes()
    properties = {"delivery_tag": "t"}
    publishes.remember(properties)
    assert publishes.tag_of(properties) == "t"
    assert publishes.tag_of(dict(properties)) is None
    publishes.forget(properties)
    assert publishes.tag_of(properties) is None


def test_a_dead_letter_is_decoded_with_its_job() -> None:
    """`at` is the server's time."""
    record = {"queue": "q", "reason": "because", "deliveries": 5, "at": 0.5}
    letter = DeadLetter.decode(json.dumps({**record, "message": _message().decode()}))
    assert (letter.id, letter.job_id, letter.task, letter.deliveries) == ("job", "job", "t", 5)
    assert letter.at.timestamp() == 0.5
    unreadable = DeadLetter.decode(json.dumps({**record, "message": "?"}))
    assert unreadable.job_id is None
    assert len(unreadable.id) == 16


@pytest.mark.parametrize("bad", ["\ud800", "a/b", "..\n", "x" * 65])
def test_a_dead_letter_can_be_named_whatever_id_its_message_has(bad: str) -> None:
    """By its hash, where the job's id is none that can be asked for; and it can be printed."""
    message = json.dumps({"headers": {"id": bad, "task": "\ud800"}, "properties": {}, "body": ""})
    record = {"queue": "q", "reason": "no \ud800", "deliveries": 5, "at": 0.5, "message": message}
    letter = DeadLetter.decode(json.dumps(record))
    assert letter.job_id is None
    assert re.fullmatch("[0-9a-f]{16}", letter.id)
    assert (letter.task, letter.reason) == ("?", "no ?")
    assert letter.message.decode() == message


def test_where_dead_letters_lie_is_read_from_the_options_of_celery() -> None:
    """With Kombu's defaults for the rest."""
    assert broker_keys({}) == BrokerKeys()
    options = {"global_keyprefix": "p.", "priority_steps": [0, 5], "sep": ":"}
    keys = broker_keys({"broker_transport_options": options})
    assert keys.lists_of("q") == ("p.q", "p.q:5")
    assert keys.dead_letters_of("q") == "p.q.dead"


def test_a_replayed_message_starts_anew() -> None:
    """Under a new tag, or the worker that finished the old one would take it for a copy."""
    old = _message(**{messages.DELIVERIES: 4, "delivery_tag": "old", "delivery_info": {}})
    new = messages.read(as_published_anew(old))
    assert messages.deliveries(new) == 0
    assert new["properties"]["delivery_tag"] != "old"
    assert as_published_anew(b"not json") == b"not json"


_GOOD = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}


@pytest.mark.parametrize(
    ("has", "word"), [(0, "Redis has 0 replicas"), (2, None), (None, None)], ids=repr
)
def test_it_is_said_that_no_job_will_be_accepted(has: int | None, word: str | None) -> None:
    """A replica may come later, and a server that does not tell may have one."""
    info = {} if has is None else {"connected_slaves": has}
    found = check(Answers(info={"role": "master", **info}, config=_GOOD, min_replicas=1))
    assert [(each.refuse, each.text[:20]) for each in found] == ([(False, word)] if word else [])


@pytest.mark.parametrize(
    ("config", "info", "denied", "refused", "word"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, {}, (), True, "noeviction"),
        ({"maxmemory-policy": "volatile-lru", "maxmemory": "9"}, {}, (), False, "noeviction"),
        ({"appendonly": "no"}, {}, (), False, "appendonly yes"),
        ({"appendfsync": "no"}, {}, (), False, "everysec"),
        ({}, {"redis_version": "5.0.3"}, (), True, "6.2"),
        ({}, {"role": "slave"}, (), True, "replica"),
        ({}, {}, ("zadd", "rpop"), True, "ACL SETUSER <user> +zadd +rpop."),
        ({}, {}, ("client tracking",), False, "+client|tracking"),
        ({}, {"cluster_enabled": "1"}, (), True, "redis-cluster://"),
    ],
)
def test_what_endangers_jobs_is_said_with_what_to_change(
    config: dict[str, str],
    info: dict[str, str],
    denied: tuple[str, ...],
    refused: bool,
    word: str,
) -> None:
    """Refused is what loses jobs silently."""
    (finding,) = check(Answers(info=info, config={**_GOOD, **config}, denied=denied))
    assert finding.refuse is refused
    assert word in finding.text


@pytest.mark.parametrize(
    ("missing", "channels", "refused", "word"),
    [
        (("eval",), (), True, "This Redis has no EVAL"),
        (("client tracking",), (), False, "cannot tell idle workers"),
        ((), ("a-*", "/0.b"), True, "ACL SETUSER <user> +subscribe +unsubscribe '&a-*' '&/0.b'."),
    ],
)
def test_what_a_server_has_not_or_a_user_may_not_hear_is_said(
    missing: tuple[str, ...], channels: tuple[str, ...], refused: bool, word: str
) -> None:
    """A right can be granted; a command that a provider has left out cannot."""
    (finding,) = check(Answers(info={}, config=_GOOD, missing=missing, channels=channels))
    assert finding.refuse is refused
    assert word in finding.text


def test_a_good_server_is_passed_and_a_silent_one_warned_of() -> None:
    """A managed Redis often refuses CONFIG."""
    assert check(Answers(info={"redis_version": "7.2.4", "role": "master"}, config=_GOOD)) == ()
    assert [f.refuse for f in check(Answers(info=None, config=None))] == [False, False]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (None, {"ssl_cert_reqs": "required"}),
        (True, {"ssl_cert_reqs": "required"}),
        ({"ssl_ca_certs": "ca"}, {"ssl_ca_certs": "ca"}),
    ],
)
def test_tls_verifies_the_certificate_unless_told_otherwise(given: object, used: object) -> None:
    """Kombu turns verification off without a word."""
    client = SimpleNamespace(ssl=given, cycle=None, transport_options={})
    SecureTransport(client)
    assert client.ssl == used


def test_what_the_scripts_call_is_asked_for_at_start() -> None:
    """A Redis user without one of these rights would find out when a worker dies."""
    folder = resources.files("service.broker") / "lua"
    # The others are for dead letters that somebody replays, on a connection of their own.
    names = ("ack", "bury", "claim", "expired", "move", "put", "renew", "restore", "take")
    text = "".join((folder / f"{name}.lua").read_text() for name in names)
    called = {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", text)}
    assert called <= COMMANDS
