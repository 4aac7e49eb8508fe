"""A publish makes exactly one message, however often it has to be tried."""

import json
from typing import Any

from redis import Redis

from tests.support.broker import Bench
from tests.support.valkey import Valkey


def test_a_publish_that_timed_out_and_is_retried_makes_one_message(
    own_bench: Bench, own_valkey: Valkey
) -> None:
    """Stock: two copies of one id, and no error."""
    client = own_bench.client()
    client.conf.broker_transport_options = {"socket_timeout": 0.4}
    with client.connection_for_write() as connection, connection.Producer() as producer:
        producer.publish({"warm": 1}, routing_key="elsewhere")
        tries = []

        def thaw(error: Exception, interval: float) -> None:
            tries.append(error)
            own_valkey.thaw()

        own_valkey.freeze()
        producer.publish(
            {"n": 1},
            routing_key="q",
            retry=True,
            retry_policy={"max_retries": 5, "interval_start": 0, "errback": thaw},
        )
    own_valkey.thaw()
    assert own_bench.redis.llen("q") == 1
    assert own_bench.redis.llen("elsewhere") == 1


def test_publishing_a_received_message_again_makes_a_second_one(bench: Bench) -> None:
    """As tools do that move messages between queues, with the properties of the original."""
    with bench.client().connection_for_write() as connection:
        with connection.Producer() as producer:
            producer.publish({"n": 1}, routing_key="q", correlation_id="x")
        message = _channel(connection).basic_get("q", no_ack=True)
        properties = {k: v for k, v in message.properties.items() if k != "delivery_info"}
        with connection.Producer() as producer:
            producer.publish({"n": 1}, routing_key="q", **properties)
            producer.publish({"n": 1}, routing_key="q", **properties)
    tags = {json.loads(m)["properties"]["delivery_tag"] for m in bench.redis.lrange("q", 0, -1)}
    assert len(tags) == 2


def test_a_message_got_directly_is_held_until_it_is_acknowledged(bench: Bench) -> None:
    """`basic_get` takes as safely as a consumer does."""
    with bench.client().connection_for_write() as connection:
        channel = _channel(connection)
        with connection.Producer() as producer:
            producer.publish({"n": 1}, routing_key="q")
        message = channel.basic_get("q")
        assert bench.redis.hlen("unacked") == 1
        assert message.payload == {"n": 1}
        message.ack()
    assert bench.redis.hlen("unacked") == 0


def test_what_a_plain_consumer_leaves_goes_back_to_its_queue(bench: Bench) -> None:
    """A program that consumes with Kombu, without Celery's worker."""
    got: list[object] = []
    with bench.client().connection_for_write() as connection:
        with connection.Producer() as producer:
            for number in range(3):
                producer.publish({"n": number}, routing_key="q")
        queue = bench.client().amqp.queues.new_missing("q")
        with connection.Consumer([queue(connection)], callbacks=[lambda b, m: got.append(b)]):
            while len(got) < 3:
                connection.drain_events(timeout=5)
        assert bench.redis.hlen("unacked") == 3
    assert bench.redis.hlen("unacked") == 0
    assert bench.redis.llen("q") == 3
    with Redis.from_url(bench.url) as redis:
        assert json.loads(redis.lindex("q", -1) or b"{}")["properties"].get("x-deliveries", 0) == 0


def test_the_channels_of_a_process_publish_on_one_connection(bench: Bench) -> None:
    """Celery's worker has five channels. The connection is closed with the last of them."""
    app = bench.client()
    with app.connection_for_write() as first, app.connection_for_write() as second:
        channels: list[Any] = [first.channel(), first.channel(), second.channel()]
        one, other, third = channels
        pool = one.pool
        assert pool is other.pool is third.pool
        for number, connection in enumerate((first, second)):
            with connection.Producer() as producer:
                producer.publish({"n": number}, routing_key="q")
        assert bench.redis.llen("q") == 2
        assert len(_connections(pool)) == 1
        one.close()
        assert _connections(pool)[0].is_connected
    assert not _connections(pool)[0].is_connected


def test_a_setting_says_how_many_connections_there_may_be(bench: Bench) -> None:
    """Kombu's own option of the transport."""
    app = bench.client()
    for given, used in (({}, 1000), ({"max_connections": 3}, 3)):
        with app.connection_for_write(transport_options=given) as connection:
            channel: Any = connection.default_channel
            assert channel.pool.max_connections == used


def test_another_user_publishes_on_another_connection(bench: Bench) -> None:
    """Connections are told apart by all that makes them what they are."""
    app = bench.client()
    named = bench.url.replace("redis://", "redis://default:any@")
    with app.connection_for_write() as first, app.connection_for_write(named) as second:
        channels: list[Any] = [first.channel(), second.channel()]
        assert channels[0].pool is not channels[1].pool


def _connections(pool: Any) -> list[Any]:
    return [*pool._available_connections, *pool._in_use_connections]


def _channel(connection: Any) -> Any:
    return connection.default_channel
