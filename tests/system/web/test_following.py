"""Following jobs from a real Hypercorn, with Redis and clients that come and go."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from redis.exceptions import RedisError

from tests.support.records import publish
from tests.support.valkey import Valkey
from tests.support.wait import wait_until
from tests.support.web import Web


@pytest.fixture
def web(request: pytest.FixtureRequest, own_valkey: Valkey) -> Iterator[Web]:
    """One that is patient on a busy machine, or gives up after what a test asks for."""
    timeout = getattr(request, "param", "20")
    with Web(own_valkey.url, SERVICE_HEARTBEAT="0.2", SERVICE_REDIS_TIMEOUT=timeout) as web:
        web.wait_until_ready()
        yield web


@pytest.fixture
def client(web: Web) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=web.url, timeout=60) as client:
        yield client


def put(valkey: Valkey, state: str, **more: object) -> None:
    with valkey.client() as redis:
        publish(redis, "one", state, **more)


def followed(valkey: Valkey) -> bool:
    try:
        with valkey.client() as redis:
            return bool(redis.pubsub_channels())
    except (RedisError, OSError):
        return False


@contextmanager
def read_meanwhile(valkey: Valkey) -> Iterator[None]:
    """Wait, in the end, until the job was read: whoever was to ask for it inside has done so."""

    def reads(redis: Any) -> int:
        stats = redis.info("commandstats")
        return sum(
            stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("get", "getrange")
        )

    with valkey.client() as redis:
        before = reads(redis)
        yield
        wait_until(lambda: reads(redis) > before, description="the job is read")


def states(lines: Iterator[str]) -> Iterator[str]:
    """The states that a stream tells."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))["state"]


@pytest.mark.parametrize("fault", ["restarted", "frozen", "connection cut"])
def test_a_stream_and_a_wait_live_through_a_loss_of_redis(
    own_valkey: Valkey, client: httpx.Client, fault: str
) -> None:
    """And tell what has changed meanwhile."""
    put(own_valkey, "QUEUED")
    with (
        ThreadPoolExecutor() as threads,
        client.stream("GET", "/result/one/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(states(lines)) == "QUEUED"
        with read_meanwhile(own_valkey):
            waiting = threads.submit(client.get, "/result/one?wait=30")
        wait_until(lambda: followed(own_valkey), description="the job is followed")
        if fault == "restarted":
            own_valkey.restart()
        elif fault == "frozen":
            own_valkey.freeze()
            assert next(line for line in lines if line.startswith(": "))  # it goes on
            own_valkey.thaw()
        else:
            with own_valkey.client() as redis:
                redis.client_kill_filter(_type="pubsub")
        put(own_valkey, "SUCCESS", result=5)
        assert next(states(lines)) == "SUCCESS"
        assert waiting.result().json().get("result") == 5, waiting.result().text


def test_streams_end_in_order_when_the_server_stops(own_valkey: Valkey, web: Web) -> None:
    """Before the 3 s are over after which Hypercorn cuts what is left: with their last chunk."""
    put(own_valkey, "QUEUED")
    with (
        httpx.Client(base_url=web.url, timeout=10) as client,
        ThreadPoolExecutor() as threads,
        client.stream("GET", "/result/one/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(states(lines)) == "QUEUED"
        with read_meanwhile(own_valkey):
            waiting = threads.submit(client.get, "/result/one?wait=30")
        web.send_signal(signal.SIGTERM)
        assert not list(states(lines))  # a stream that is cut raises here
        assert waiting.result().json()["state"] == "QUEUED"
    assert web.wait() == 0


def test_a_client_that_goes_away_frees_what_it_held(
    own_valkey: Valkey, client: httpx.Client, web: Web
) -> None:
    """Whether it waited or streamed, and however early it left."""
    put(own_valkey, "QUEUED")
    address = urlsplit(web.url)
    for path in ("/result/one/events", "/result/one?wait=30", "/result/one/events"):
        with socket.create_connection((address.hostname or "", address.port or 0)) as raw:
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until(lambda: followed(own_valkey), description="the job is followed")
        wait_until(lambda: not followed(own_valkey), description="nobody follows the job")


@pytest.mark.parametrize("web", ["0.5"], indirect=True, ids=["impatient"])
@pytest.mark.parametrize("path", ["/result/one?wait=60", "/result/one/events"])
def test_a_new_waiter_is_told_of_a_silent_redis(
    own_valkey: Valkey, client: httpx.Client, path: str
) -> None:
    """Long before its own time is over, and is served again afterwards."""
    put(own_valkey, "SUCCESS")
    own_valkey.freeze()
    response = client.get(path, timeout=20)
    assert response.status_code == 503
    assert response.json()["maybe_accepted"] is False
    own_valkey.thaw()
    wait_until(lambda: client.get(path).status_code == 200, description="it is served")


def test_a_post_while_redis_is_away_says_whether_it_may_have_arrived(
    own_valkey: Valkey, client: httpx.Client
) -> None:
    """And with the same key it is safe to try again."""
    headers = {"Idempotency-Key": "k"}

    def post() -> httpx.Response:
        return client.post("/tasks/demo.my_add", json={"a": 1, "b": 2}, headers=headers)

    assert client.get("/").status_code == 200  # so that there is a connection
    own_valkey.flush()
    own_valkey.freeze()
    silent = post()
    assert (silent.status_code, silent.json()["maybe_accepted"]) == (503, True)
    assert int(silent.headers["Retry-After"]) > 0
    own_valkey.thaw()
    wait_until(lambda: post().status_code == 202, description="it is accepted")
    with own_valkey.client() as redis:
        assert redis.llen("celery") == 1
    own_valkey.stop()
    refused = post()
    assert (refused.status_code, refused.json()["maybe_accepted"]) == (503, False)
    own_valkey.start()
    answer = post()
    assert answer.status_code == 202, answer.text


def test_a_request_of_two_lengths_is_refused_and_its_connection_closed(web: Web) -> None:
    """Or what follows could be taken for a request of somebody else's."""
    address = urlsplit(web.url)
    request = (
        b"POST /tasks/demo.my_add HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET /tasks HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0), 10) as raw:
        raw.sendall(request)
        answer = b""
        while data := raw.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
