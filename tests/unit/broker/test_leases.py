"""A job begins only on a lease that was renewed in time."""

from redis import Redis

from service.broker.delivery import Delivery, LeaseOptions
from service.broker.leases.in_flight import Outcome
from service.broker.leases.leases import Leases
from service.redis.keys import BrokerKeys
from tests.support.wait import wait_until


def _leases(lease: float) -> Leases:
    """Leases that nothing renews, with a delivery `a`."""
    leases = Leases(Redis(), BrokerKeys(), LeaseOptions(lease, 3600, 5), fail=lambda *_: True)
    assert leases.hold(Delivery("a", "q", b"{}", "a"))
    return leases


def test_a_lease_that_was_renewed_in_time_is_good() -> None:
    """Nearly always; and what is not held here is none of its business."""
    leases = _leases(60.0)
    assert not leases.gives_back("a")
    assert not leases.gives_back("b")


def test_a_delivery_whose_lease_may_be_over_is_returned() -> None:
    """Nobody has said that it is lost: this process may just have been thawed."""
    leases = _leases(0.01)
    wait_until(lambda: leases.age > 0.01, description="it is over")
    assert leases.gives_back("a")
    assert not leases.gives_back("b")
    (disposition,) = leases.in_flight.dispositions()
    assert disposition.outcome is Outcome.RETURN


def test_a_delivery_that_was_lost_is_not_begun() -> None:
    """Redis has said so since."""
    leases = _leases(60.0)
    leases.in_flight.lose("a")
    assert leases.gives_back("a")
