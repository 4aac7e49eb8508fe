"""What `service dev` reads and writes, without starting anything."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.main import main
from service.dev.address import Address, listen, parse_address
from service.dev.output import Output, prefix, under_prefix
from service.errors import DevServerError
from service.worker.pool.default_pool import ASYNCIO_CONCURRENCY
from tests.support.ports import free_port


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000), "http://127.0.0.1:8000"),
        ("localhost:0", Address("localhost", 0), "http://localhost:0"),
        ("[::1]:8000", Address("::1", 8000), "http://[::1]:8000"),
        ("0.0.0.0:80", Address("0.0.0.0", 80), "http://127.0.0.1:80"),
        ("[::]:80", Address("::", 80), "http://[::1]:80"),
    ],
)
def test_an_address_is_read_and_shown_as_a_url(text: str, address: Address, url: str) -> None:
    """The line that is printed must open in a browser, even for "every address"."""
    assert parse_address(text) == address
    assert address.url == url


@pytest.mark.parametrize(
    "text", ["", "8000", ":8000", "host:", "host:x", "::1:8000", "a b:1", "http://host:80", "h:-1"]
)
def test_a_text_that_is_no_address_is_refused_with_an_example(text: str) -> None:
    """The reader should see at once how to write it."""
    with pytest.raises(ValueError, match=r"for example 127\.0\.0\.1:8000"):
        parse_address(text)


@given(st.text())
def test_reading_an_address_fails_only_with_its_own_error(text: str) -> None:
    """Anything else would reach the user as a traceback."""
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65_535


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dev", "--bind", "nonsense"], "'nonsense' does not look like HOST:PORT"),
        (["dev", "--bind", "127.0.0.1:65536"], "port 65536 is too high"),
        (["dev", "--concurrency", "0"], "'0' is not a whole number from 1 up"),
        (["dev", "--concurrency", "two"], "'two' is not a whole number from 1 up"),
        (["dev", "--queues", "mail,"], "'mail,' is no list of queues, for example celery,mail"),
    ],
)
def test_a_bad_option_is_told_in_words(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """click's own "invalid value" does not say what a good value is."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody who only knows the name `service` finds the rest."""
    with pytest.raises(SystemExit) as caught:
        main([])

    assert caught.value.code == 0
    assert "dev " in capsys.readouterr().out


def test_the_help_tells_how_many_jobs_the_worker_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The number is the pool's, far from here."""
    with pytest.raises(SystemExit):
        main(["dev", "--help"])

    assert f"{ASYNCIO_CONCURRENCY} for asyncio" in " ".join(capsys.readouterr().out.split())


def test_a_taken_port_is_told_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The most common trouble of all; no traceback, and nothing has been started."""
    monkeypatch.delenv("SERVICE_REDIS_URL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit) as caught:
            main(["dev", "--bind", f"127.0.0.1:{port}"])

    assert caught.value.code == 1
    shown = capsys.readouterr()
    assert f"Port {port} on 127.0.0.1 is taken by another program." in shown.err
    assert "--bind" in shown.err
    assert shown.out == ""


def test_a_port_that_was_just_in_use_can_be_taken_again() -> None:
    """A restart must not wait a minute for the kernel to forget old connections."""
    port = free_port()
    there = ("127.0.0.1", port)
    with socket.create_server(there) as server, socket.create_connection(there):
        server.accept()[0].close()  # the server closes first, so its side is in TIME_WAIT
    listener, address = listen(Address("127.0.0.1", port))
    listener.close()

    assert address.port == port


def test_port_0_becomes_the_port_that_was_picked() -> None:
    """The address that is printed is one to open."""
    listener, address = listen(Address("127.0.0.1", 0))
    with listener:
        assert address.port == listener.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["192.0.2.1", "no..such.host"])
def test_an_address_of_no_use_here_is_told(host: str) -> None:
    """192.0.2.0/24 is kept for documentation: no machine has it."""
    with pytest.raises(DevServerError, match="is not an address of this machine"):
        listen(Address(host, 8000))


def test_data_for_a_redis_that_is_not_ours_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silently keeping the data elsewhere would lose it for the user."""
    monkeypatch.setenv("SERVICE_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(SystemExit):
        main(["dev", "--data", "somewhere"])

    assert "Use one of the two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "shown"),
    [(b"hello\n", b"> hello\n"), (b"no end", b"> no end\n"), (b"dos\r\n", b"> dos\n")],
)
def test_each_line_is_shown_under_its_prefix(line: bytes, shown: bytes) -> None:
    """A line never runs into that of another process."""
    assert under_prefix(b"> ", line) == shown


def test_prefixes_are_of_one_width_and_coloured_only_if_asked() -> None:
    """A file or a pipe should not be filled with escape codes."""
    assert prefix("web", width=6, colour=None) == b"web    | "
    assert prefix("worker", width=6, colour=33) == b"\x1b[33mworker | \x1b[0m"


def test_logs_are_merged_line_by_line() -> None:
    """Even a line without an end is shown, and bytes that are no text pass through."""
    source, sink = os.pipe()
    failures: list[OSError] = []
    output = Output(sink, width=3, colour=False, on_failure=failures.append)
    for name in ("one", "two"):
        pipe = output.pipe(name)
        os.write(pipe, f"first\nlast of {name} ".encode() + b"\xff")
        os.close(pipe)
    output.say("ours")
    output.close(within=5)
    os.close(sink)

    assert not failures
    with os.fdopen(source, "rb") as log:
        lines = log.read().splitlines()
    assert sorted(lines) == [
        b"one | first",
        b"one | last of one \xff",
        b"ours",
        b"two | first",
        b"two | last of two \xff",
    ]
