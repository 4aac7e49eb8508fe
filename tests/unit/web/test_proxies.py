"""What is believed of what proxies say, and of whom."""

from typing import Any

import pytest

from service.web.asgi.problem import RefusedError
from service.web.asgi.proxies import TrustedProxies

OUTER, INNER, CLIENT, FORGED = "10.1.0.1", "10.2.0.2", "192.0.2.7", "198.51.100.9"
PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:a::/48", "unix"])


def seen(peer: str | None, *headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    """The scope behind the proxies, with headers as a dict."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"scheme": "http", "path": "/x", "headers": [(b"host", b"inner:8000"), *raw], **more}
    client = None if peer is None else (peer, 1234)
    result = dict(PROXIES.seen_through({**scope, "client": client}))
    result["headers"] = {name.decode(): value.decode() for name, value in result["headers"]}
    return result


def client_of(peer: str | None, *headers: tuple[str, str]) -> str:
    return str((seen(peer, *headers)["client"] or ("",))[0])


EVERYTHING = (
    ("X-Forwarded-For", FORGED),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Prefix", "/evil"),
)


@pytest.mark.parametrize("peer", [CLIENT, "2001:db8:b::1", "::ffff:192.0.2.7", "no-address"])
def test_nobody_else_is_believed(peer: str) -> None:
    """Nothing of the request changes."""
    before = seen(peer)
    after = seen(peer, *EVERYTHING)
    assert after == {**before, "headers": after["headers"]}
    assert after["headers"]["host"] == "inner:8000"
    after = seen(peer, ("Forwarded", f"for={FORGED};proto=https;host=evil.example"))
    assert after == {**before, "headers": after["headers"]}
    assert after["headers"]["host"] == "inner:8000"


@pytest.mark.parametrize("peer", [OUTER, "::ffff:10.1.0.1", "2001:db8:a::5", None])
def test_a_trusted_peer_is_believed(peer: str | None) -> None:
    """By its address, also on a socket of both families, or as it came by a Unix socket."""
    for headers in (
        EVERYTHING,
        (("Forwarded", f'for={FORGED};proto=https;host="evil.example"'), EVERYTHING[-1]),
    ):
        after = seen(peer, *headers, root_path="/app")
        assert after["client"] == (FORGED, 0)
        assert after["scheme"] == "https"
        assert after["headers"]["host"] == "evil.example"
        assert (after["root_path"], after["path"]) == ("/evil/app", "/evil/x")


def test_a_trusted_peer_that_says_nothing_is_the_client() -> None:
    """A health check of the machine itself, for one."""
    assert client_of(OUTER) == OUTER
    assert client_of(None) == ""


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        (CLIENT, CLIENT),
        (f"{FORGED}, {CLIENT}", CLIENT),
        (f"10.3.0.3, {CLIENT}", CLIENT),
        (f"{FORGED}, {CLIENT}, {INNER}", CLIENT),
        (f"{CLIENT},,{INNER} ,", CLIENT),
        (f"10.9.9.9, {INNER}", "10.9.9.9"),
        (f"{CLIENT}:5678", CLIENT),
        ("[2001:db8::7]:80", "2001:db8::7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("::ffff:192.0.2.7", CLIENT),
        (f"{FORGED}, unknown", OUTER),
        (f"{FORGED}, unknown, {INNER}", INNER),
    ],
)
def test_the_client_is_the_nearest_hop_that_is_no_proxy(hops: str, client: str) -> None:
    """What is farther away, that one may have made up."""
    assert client_of(OUTER, ("X-Forwarded-For", hops)) == client
    lines = [("X-Forwarded-For", hop) for hop in hops.split(",")]
    assert client_of(OUTER, *lines) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"For={CLIENT}; by=_x", CLIENT),
        (f'for={FORGED}, for="{CLIENT}:80"', CLIENT),
        (f'for="[2001:db8::7]:443", for={INNER};proto=http', "2001:db8::7"),
        (f'for="un\\known, x", for="{CLIENT}"', CLIENT),
        (f"for={FORGED}, for=_hidden", OUTER),
        (f"for={FORGED}, proto=https", OUTER),
    ],
)
def test_forwarded_is_read_as_its_standard_has_it(value: str, client: str) -> None:
    """RFC 7239: quoted strings, any order and case, elements that name nobody."""
    assert client_of(OUTER, ("Forwarded", value)) == client


def test_scheme_and_host_are_those_that_the_client_has_used() -> None:
    """What the outer proxy has said, where each says something."""
    headers = (
        ("X-Forwarded-For", f"{CLIENT}, {OUTER}"),
        ("X-Forwarded-Proto", "https, http"),
        ("X-Forwarded-Host", "evil.example, jobs.example, inner"),
    )
    after = seen(INNER, *headers)
    assert (after["scheme"], after["headers"]["host"]) == ("https", "jobs.example")
    value = f"for={FORGED};proto=http, for={CLIENT};proto=https;host=jobs.example, for={OUTER}"
    after = seen(INNER, ("Forwarded", value))
    assert (after["scheme"], after["headers"]["host"]) == ("https", "jobs.example")
    assert seen(INNER, ("X-Forwarded-Proto", "gopher"))["scheme"] == "http"


@pytest.mark.parametrize("prefix", ["//evil.example", "evil", "/a/../b", "/a//b", "/a\r\nx", "/é"])
def test_a_prefix_cannot_lead_elsewhere(prefix: str) -> None:
    """Links begin with it."""
    after = seen(OUTER, ("X-Forwarded-Prefix", prefix))
    assert after["path"] == "/x"
    assert "root_path" not in after


@pytest.mark.parametrize(
    "headers",
    [
        [("Forwarded", f"for={FORGED}"), ("X-Forwarded-For", CLIENT)],
        [("Forwarded", f"for={CLIENT}"), ("X-Forwarded-For", FORGED)],
        [("Forwarded", f'for={FORGED};x=", for={CLIENT}')],
        [("Forwarded", f"for={CLIENT} {FORGED}")],
    ],
)
def test_a_proxy_that_passes_on_what_a_client_made_up_is_found_out(
    headers: list[tuple[str, str]],
) -> None:
    """Proxies set one of the two and pass on the other. An open quote hides what follows."""
    with pytest.raises(RefusedError):
        seen(OUTER, *headers)


def test_both_may_say_the_same() -> None:
    """Some proxies set both."""
    both = (("Forwarded", f"for={CLIENT}"), ("X-Forwarded-For", f"{FORGED}, {CLIENT}"))
    assert client_of(OUTER, *both) == CLIENT
