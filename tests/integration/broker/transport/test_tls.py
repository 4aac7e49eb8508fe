"""`rediss://`: the whole way under TLS, with the server's certificate verified."""

from pathlib import Path

import pytest
from redis import Redis

from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.tls import TlsFront, make_certificate
from tests.support.valkey import Valkey


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
def test_a_job_goes_all_the_way_under_tls(
    redis_url: str, valkey: Valkey, tmp_path: Path, pool: str
) -> None:
    """By the address alone: nothing else has to be set. (The wheel's Valkey has no TLS itself.)"""
    certificate, key = make_certificate(tmp_path)
    with TlsFront(valkey.port, certificate, key) as front:
        url = f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={certificate}"
        with (
            Bench(url, tmp_path, redis=valkey.client()) as bench,
            bench.worker(pool=pool, concurrency=1) as worker,
        ):
            ready(worker)
            assert bench.web.result("faults.work", "secret") == "secret"
            bench.wait_until_empty()
            assert worker.returncode is None


def test_a_server_that_nobody_vouches_for_is_not_trusted(
    redis_url: str, valkey: Valkey, tmp_path: Path
) -> None:
    """Kombu's own default is to trust anybody."""
    certificate, key = make_certificate(tmp_path)
    with TlsFront(valkey.port, certificate, key) as front:
        url = f"rediss://127.0.0.1:{front.port}/0"
        with Bench(url, tmp_path, redis=valkey.client()) as bench, bench.worker() as worker:
            worker.wait_for_output("CERTIFICATE_VERIFY_FAILED")
            worker.wait_for_output("Trying again")
    with Redis(port=valkey.port) as redis:
        assert not redis.keys("*")
