"""Which hosts a request may be for."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quart import Quart

from service.web.asgi.hosts import TrustedHosts, is_odd
from service.web.asgi.problem import RefusedError

ODD = [
    "a" * 64,
    ".",
    "a..b",
    ".a",
    "a.b..",
    "a b",
    "é",
    "a/b",
    "a@b",
    "a:b",
    "[",
    "[::1",
    ":80",
    "a,b",
]


def status_of(hosts: TrustedHosts, *names: str) -> int:
    """The status of the refusal of a request for this host, or 200."""
    try:
        hosts.check({"headers": [(b"host", name.encode("latin1")) for name in names]})
    except RefusedError as error:
        return error.problem.status
    return 200


@pytest.mark.parametrize("host", [*ODD, "a." * 200 + "a"])
def test_a_host_of_odd_form_is_refused(host: str) -> None:
    """Whether or not it is said which hosts are served."""
    assert status_of(TrustedHosts([]), host) == 400
    assert status_of(TrustedHosts(["a"]), host) == 400
    assert status_of(TrustedHosts([]), "a", "b") == 400


@given(
    st.one_of(
        st.from_regex(re.compile(r"[a-zA-Z0-9.:\[\]_-]{1,80}", re.ASCII), fullmatch=True),
        st.text(st.characters(max_codepoint=255), max_size=40),
        st.text("xn-é.8", max_size=20).map(lambda text: f"xn--{text}"),
    )
)
@settings(deadline=None, max_examples=300)
async def test_no_host_that_passes_breaks_routing(host: str) -> None:
    """Werkzeug and Quart make addresses of it before there is any handler of errors."""
    if is_odd(host):
        return
    app = Quart(__name__)
    async with app.test_request_context("/", headers={"Host": host}) as context:
        assert context.url_adapter is not None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("jobs.example", 200),
        ("JOBS.example.:8443", 200),
        ("a.b.inner.example", 200),
        ("inner.example", 421),
        ("xinner.example", 421),
        ("evil.example", 421),
        ("jobs.example.evil.example", 421),
        ("10.1.2.3:80", 200),
        ("11.1.2.3", 421),
        ("[::1]:8000", 200),
        ("[::2]", 421),
        ("", 421),
    ],
)
def test_only_the_hosts_that_are_named_are_served(host: str, status: int) -> None:
    """By name, below a name, or in a network; the port does not count."""
    hosts = TrustedHosts(["jobs.example", ".Inner.example", "10.0.0.0/8", "[::1]"])
    assert status_of(hosts, host) == status
    assert status_of(TrustedHosts([]), host) == 200
