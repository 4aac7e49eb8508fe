"""`SERVICE_LIMITS` as it is written, and as answers tell it."""

import pytest

from service.settings.limits import Limit, Limits, parse_limits
from service.web.limits.checks import network_of


def test_limits_that_are_not_named_are_as_ever() -> None:
    """Whoever wants one of them tighter must not have to know the others."""
    limits = parse_limits(" starts=60/1m, open-jobs=1000 ,requests=5/10s")
    assert limits.starts == Limit(60, 60)
    assert limits.open_jobs == Limit(1000)
    assert limits.requests == Limit(5, 10)
    assert limits.streams == Limits().streams


def test_off_is_one_limit_or_all() -> None:
    """Benchmarks need the second."""
    assert parse_limits("starts=off").starts == Limit()
    assert parse_limits("starts=off").requests == Limits().requests
    assert {str(limit) for _, limit in parse_limits("off")._all()} == {"off"}


@pytest.mark.parametrize("text", [str(Limits()), "starts=60/2m,sign-ins=off,requests=1/s"])
def test_limits_are_shown_as_they_are_written(text: str) -> None:
    """What `service dev` shows can be copied into the environment."""
    limits = parse_limits(text)
    assert parse_limits(str(limits)) == limits


@pytest.mark.parametrize(
    "text",
    ["start=1/1s", "starts", "starts=5", "starts=0/1m", "starts=1/0m", "streams=1/1m", "streams=x"],
)
def test_a_mistake_is_told(text: str) -> None:
    """A limit that is silently none would be found out by somebody else."""
    with pytest.raises(ValueError, match=r"^`st"):
        parse_limits(text)
    with pytest.raises(ValueError, match="there are requests, starts, sign-ins"):
        parse_limits("x=1")


def test_a_policy_is_told_as_the_draft_has_it() -> None:
    """draft-ietf-httpapi-ratelimit-headers, RateLimit-Policy."""
    limits = parse_limits("starts=60/1m,streams=9,open-bytes=7")
    assert limits.policy("starts") == '"starts";q=60;w=60'
    assert limits.policy("streams") == '"streams";q=9;qu="concurrent-requests"'
    assert limits.policy("open-bytes") == '"open-bytes";q=7;qu="content-bytes"'


def test_what_is_left_is_counted_down() -> None:
    """By the time until the quota is whole again."""
    limit = Limit(10, 60)
    assert [limit.left(debt) for debt in (0, 6, 6.1, 60, 66)] == [10, 9, 8, 0, 0]


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
    ],
)
def test_a_network_of_ipv6_is_one_caller(address: str, caller: str) -> None:
    """Whoever has one address of it has all of the 2**64."""
    assert network_of(address) == caller
