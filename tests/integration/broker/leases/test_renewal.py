"""A renewal that finds leases lost lets none of their jobs begin."""

from redis import Redis

from service.broker.delivery import Delivery, LeaseOptions
from service.broker.leases.leases import Leases
from service.redis.keys import BrokerKeys
from tests.support.wait import wait_until


def test_nothing_that_was_lost_begins_while_that_is_being_found_out(redis_url: str) -> None:
    """A renewal that came too late finds several leases lost, and tells of them one by one."""
    begun: list[str] = []

    def begin_the_other(tag: str, _job: str | None) -> None:
        (other,) = {"a", "b"} - {tag}
        if not leases.gives_back(other):
            begun.append(other)

    options = LeaseOptions(0.01, 3600, 5, on_lost=begin_the_other)
    leases = Leases(Redis.from_url(redis_url), BrokerKeys(), options, fail=lambda *_: True)
    for tag in ("a", "b"):
        assert leases.hold(Delivery(tag, "q", b"{}", tag))
    wait_until(lambda: leases.age > options.lease, description="the leases are over")
    leases._renew()
    assert begun == []
