"""Waiting for work: at once, in the right order, from everybody, and cheap."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from statistics import median
from typing import Any

import pytest
from redis import Redis

from service.broker.transport.waiter import ASK_AGAIN
from tests.support.broker import MAINLY_ASYNCIO, POOLS, Bench, ready
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until


def _calls(redis: Redis, *commands: str) -> int:
    stats = redis.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in commands)


def _scripts(bench: Bench) -> int:
    return _calls(bench.redis, "eval", "evalsha")


def _delays(bench: Bench, worker: Process, *, stock: bool = False) -> list[float]:
    """How long each of twenty jobs took to be started by an idle worker."""
    ready(worker)
    bench.wait_for(bench.send("work", "warm", stock=stock))
    delays = []
    for number in range(20):
        bench.wait_until_empty()
        sent = time.time()
        bench.send("work", f"j{number}", stock=stock, priority=(number % 4) * 3)
        bench.wait_for_note("end", f"j{number}")
        delays.append(bench.times("start", f"j{number}")[0] - sent)
    return delays


@pytest.mark.parametrize("pool", [*POOLS, "solo"])
@pytest.mark.parametrize("stock", [False, True], ids=["our-client", "stock-client"])
def test_an_idle_worker_starts_a_job_within_milliseconds(
    bench: Bench, pool: str, stock: bool
) -> None:
    """Whoever published it, and with whatever priority: nothing is polled for.

    By far more often than not it starts long before the worker would ask again by itself.
    """
    with bench.worker(pool=pool, concurrency=1) as worker:
        delays = _delays(bench, worker, stock=stock)
    assert median(delays) < ASK_AGAIN / 4, delays


@pytest.mark.parametrize("pool", [*MAINLY_ASYNCIO, "solo"])
def test_a_worker_that_may_not_be_told_of_jobs_looks_for_them(bench: Bench, pool: str) -> None:
    """A managed Redis often refuses CLIENT: the worker says what that costs, and works."""
    rights = ("allkeys", "allchannels", "+@all", "-client|tracking")
    bench.redis.execute_command("ACL", "SETUSER", "untold", "on", ">secret", *rights)  # type: ignore[no-untyped-call]  # by redis-py
    bench.url = bench.results = bench.url.replace("//", "//untold:secret@")
    try:
        with bench.worker(pool=pool, concurrency=1) as worker:
            delays = _delays(bench, worker)
            assert (
                pool == "solo" or "Grant it: ACL SETUSER <user> +client|tracking." in worker.output
            )
    finally:
        bench.redis.execute_command("ACL", "DELUSER", "untold")  # type: ignore[no-untyped-call]  # by redis-py
    assert median(delays) < ASK_AGAIN / 4, delays


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
def test_an_idle_worker_does_not_poll(bench: Bench, pool: str) -> None:
    """It asks every two seconds, as it reports; leases and sweeps go by the lease."""
    bench.options["lease"] = 30
    with bench.worker(pool=pool) as worker:
        ready(worker)
        bench.wait_for(bench.send("noop"))
        before, start = _scripts(bench), time.monotonic()
        wait_until(lambda: time.monotonic() > start + 3, description="three idle seconds")
        assert _scripts(bench) - before <= 4 * (time.monotonic() - start)


def test_one_message_wakes_few_of_many_idle_workers(bench: Bench) -> None:
    """All waiters on one list would each be woken, and each would ask Redis for nothing."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(bench.worker(f"w{i}", pool="solo", concurrency=1)) for i in range(8)
        ]
        ready(*workers)
        bench.wait_for(bench.send("work", "warm"))
        before = _scripts(bench)
        start = time.monotonic()
        jobs = [bench.send("work", f"j{i}") for i in range(40)]
        for job in jobs:
            bench.wait_for(job)
        seconds = time.monotonic() - start
        spent = _scripts(bench) - before - len(jobs)  # a publish is a script too
        asking_again = 8 * (seconds + 1)
        assert spent <= 8 * len(jobs) + asking_again, (spent, seconds)


def test_messages_come_by_priority_and_from_every_queue(bench: Bench) -> None:
    """Kombu's order: the lowest step first, the queues in turn."""
    labels = [("low", 9), ("middle", 6), ("high", 0)]
    for label, priority in labels:
        for queue in ("one", "two"):
            bench.send("work", f"{label}-{queue}", queue=queue, priority=priority)
    with bench.worker(pool="solo", concurrency=1, queues="one,two") as worker:
        ready(worker)
        wait_until(lambda: len(bench.notes()) == 12, description="all six have run")
        for queue in ("one", "two"):
            bench.wait_until_empty(queue)
    order = [note[1].split("-")[0] for note in bench.notes() if note[0] == "start"]
    assert order == ["high", "high", "middle", "middle", "low", "low"]


def test_a_frozen_worker_keeps_nobody_waiting(bench: Bench) -> None:
    """It may be frozen just where the next message arrives, and counts as active for 3.5 s."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(bench.worker(f"w{i}", pool="solo", concurrency=1)) for i in range(3)
        ]
        ready(*workers)
        bench.wait_for(bench.send("work", "warm"))
        workers[0].send_signal(signal.SIGSTOP)
        sent = time.time()
        job = bench.send("work", "now")
        bench.wait_for(job)
        assert bench.times("start", "now")[0] - sent < 10  # for a lease, or ever, without the rest
        workers[0].send_signal(signal.SIGCONT)


def test_what_comes_when_there_is_no_room_any_more_goes_back_to_its_queue(
    own_bench: Bench, own_valkey: Valkey
) -> None:
    """A scheduled job becomes due, and takes the place, while Redis hands out another job.

    Kombu leaves the answer unread until there is room, and nobody would renew the other's lease.
    """
    with _consuming(own_bench) as (connection, consumer, got):
        own_valkey.freeze()
        _drained(connection, timeout=0.2)  # asks for one more
        consumer.qos(prefetch_count=1)
        own_valkey.thaw()
        wait_until(
            lambda: (
                _drained(connection)
                and own_bench.redis.hlen("unacked") == own_bench.redis.llen("q") == 1
            ),
            description="the second is in its queue again",
        )
        assert got == [{"n": 1}]
        consumer.qos(prefetch_count=2)
        wait_until(lambda: _drained(connection) and len(got) == 2, description="it is delivered")


def test_what_was_read_too_late_is_not_begun(own_bench: Bench, own_valkey: Valkey) -> None:
    """A process that was frozen finds jobs in its socket that a worker has recovered by now."""
    own_bench.options["lease"] = 1.0
    with own_bench.worker(queues="another") as worker:
        ready(worker)
        with _consuming(own_bench) as (connection, _, got):
            own_valkey.freeze()
            _drained(connection, timeout=0.2)  # asks for one more
            own_valkey.thaw()
            wait_until(lambda: own_bench.redis.llen("q") == 0, description="it is handed out")
            wait_until(lambda: own_bench.redis.llen("q") == 1, description="its lease is over")
            wait_until(lambda: _drained(connection) and len(got) == 2, description="it comes again")
            _drained(connection)
            assert got == [{"n": 1}, {"n": 2}]
            assert own_bench.redis.hlen("unacked") == 2


@contextmanager
def _consuming(bench: Bench) -> Iterator[tuple[Any, Any, list[object]]]:
    """A consumer that has the first of two messages and room for one more, and what it has got."""
    got: list[object] = []
    client = bench.client()
    client.conf.broker_transport_options = {"lease": bench.options["lease"]}
    with client.connection_for_write() as connection:
        queue = client.amqp.queues.new_missing("q")
        with (
            connection.Producer() as producer,
            connection.Consumer([queue(connection)]) as consumer,
        ):
            consumer.register_callback(lambda body, message: got.append(body))
            consumer.qos(prefetch_count=1)
            for number in (1, 2):
                producer.publish({"n": number}, routing_key="q")
            wait_until(lambda: _drained(connection) and got, description="the first is delivered")
            consumer.qos(prefetch_count=2)
            yield connection, consumer, got


def _drained(connection: Any, timeout: float = 0.05) -> bool:
    """Let the connection read what there is; always true."""
    with suppress(TimeoutError):
        connection.drain_events(timeout=timeout)
    return True


def test_a_key_prefix_is_on_every_key(bench: Bench) -> None:
    """Of the broker, and of the dashboard; Celery's results have an option of their own."""
    bench.options |= {"global_keyprefix": "mine:", "max_deliveries": 1}
    with bench.worker(concurrency=1) as worker:
        ready(worker)
        bench.wait_for(bench.send("work", "prefixed"))
        bench.send("die", "poison")
        wait_until(lambda: bench.redis.exists("mine:celery.dead"), description="it is dead")
    names = {str(name) for name in bench.redis.keys("*")}
    known = ("mine:", "celery-task-meta-")
    assert {name for name in names if not name.startswith(known)} == set()
