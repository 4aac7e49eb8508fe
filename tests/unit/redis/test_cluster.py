"""All keys of a service are in one slot of a Redis Cluster, and its node is looked for."""

from typing import Any

import pytest

from service import create_app, get_celery
from service.errors import ConfigurationError
from service.redis.cluster import HashSlot, are_in_one_slot, one_address
from service.redis.keys import broker_keys, result_keys
from service.settings import read_settings

URL = "redis-cluster://one:1;redis-cluster://two"
BROKER = "SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS"
RESULTS = "SERVICE_CELERY__RESULT_BACKEND_TRANSPORT_OPTIONS"


@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [
        (["{shop}:", "{shop}"], True),
        (["a{shop}b", "{shop}c"], True),
        (["shop:"], False),
        (["{}shop"], False),
        (["{shop"], False),
        (["{shop}:", "{other}:"], False),
        (["{shop}:", ""], False),
    ],
)
def test_a_hash_tag_keeps_keys_in_one_slot(prefixes: list[str], expected: bool) -> None:
    """What Redis takes for one: the text between the first pair of braces, unless it is empty."""
    assert are_in_one_slot(prefixes) is expected


@pytest.mark.parametrize(
    ("broker", "results"), [("", ""), ("{a}", ""), ("", "{a}"), ("{a}", "{b}"), ("a:", "a:")]
)
def test_keys_in_several_slots_are_refused(broker: str, results: str) -> None:
    """The scripts need a job's keys on one server. The sentence says what to set."""
    options = {BROKER: {"global_keyprefix": broker}, RESULTS: {"global_keyprefix": results}}
    with pytest.raises(ConfigurationError, match=r"begin them with the same hash tag.*\{shop\}:"):
        create_app({"SERVICE_REDIS_URL": URL, **options})


def test_results_alone_may_be_in_a_cluster() -> None:
    """The broker's Redis is another, whose keys may be anywhere."""
    config = {"SERVICE_CELERY__BROKER_URL": "redis://other", RESULTS: {"global_keyprefix": "{a}"}}
    create_app({"SERVICE_REDIS_URL": URL, **config})


def test_every_key_begins_with_the_tag() -> None:
    """Each by its name in keys.py; scripts make others of these."""
    options = {"global_keyprefix": "{shop}"}
    settings = read_settings({}, {BROKER: options, RESULTS: options})
    for keys in (result_keys(settings), broker_keys(settings.celery)):
        for name in (n for n in dir(keys) if not n.startswith("_")):
            value: Any = getattr(keys, name)
            if isinstance(value, str) and name not in {"unacked", "index", "separator"}:
                assert value.startswith("{shop}"), name


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, "redis://one:1"),
        ("rediss-cluster://u:p@one/0?ssl_ca_certs=a;rediss-cluster://two", "rediss://u:p@one/0?ssl_ca_certs=a"),
    ],
)  # fmt: skip
def test_the_first_address_has_the_options(url: str, expected: str) -> None:
    """For redis-py, which knows no addresses of clusters."""
    assert one_address(url) == expected


def test_a_node_that_may_be_frozen_is_not_asked_first_for_ever() -> None:
    """A connection that waits for it is given up, and the next one begins with another."""
    hash_slot = HashSlot.at(URL, "key")
    assert hash_slot.addresses() == [("one", 1), ("two", 6379)]
    assert hash_slot.addresses() == [("two", 6379), ("one", 1)]
    hash_slot.found(("three", 3))
    assert hash_slot.addresses() == [("three", 3), ("one", 1), ("two", 6379)]
    assert hash_slot.addresses()[0] != ("three", 3)


def test_the_certificate_is_verified_by_default() -> None:
    """As by rediss://; Celery refuses an address that does not say it."""
    options = {BROKER: {"global_keyprefix": "{a}"}, RESULTS: {"global_keyprefix": "{a}"}}
    url = "rediss-cluster://:secret@one:1;rediss-cluster://:secret@two"
    celery: Any = get_celery(create_app({"SERVICE_REDIS_URL": url, **options}))
    made = celery.backend.client.connection_pool.make_connection()
    assert made.cert_reqs.name == "CERT_REQUIRED"
    assert made.hash_slot.addresses() == [("one", 1), ("two", 6379)]
    assert "secret" not in celery.backend.as_uri()
    assert celery.backend.as_uri(include_password=True) == url
