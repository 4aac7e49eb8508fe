"""Pins what the transport overrides and calls in Kombu, Celery and billiard: none is promised.

If one of these fails after an upgrade, read what became of the name before anything else: a
transport that is silently not asked any more loses jobs.
"""

import inspect
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import UUID

import pytest
from billiard.pool import ApplyResult
from celery.worker import consumer as celery_consumer
from celery.worker import state, strategy
from celery.worker.request import Request
from kombu.asynchronous.hub import Hub
from kombu.connection import Connection
from kombu.pidbox import Mailbox
from redis.exceptions import ResponseError

from service.broker.transport.channel import Channel
from service.broker.transport.transport import SentinelChannel, SentinelTransport, Transport

# Their stubs do not know these names.
kombu_redis: Any = import_module("kombu.transport.redis")
serialization: Any = import_module("kombu.serialization")
virtual: Any = import_module("kombu.transport.virtual")
asynpool: Any = import_module("celery.concurrency.asynpool")
threads: Any = import_module("celery.concurrency.thread")
task_signals: Any = import_module("celery.signals")


def _names(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (kombu_redis.Channel._brpop_start, ["self", "timeout"]),
        (kombu_redis.Channel._brpop_read, ["self", "options"]),
        (kombu_redis.Channel._get_pool, ["self", "asynchronous"]),
        (kombu_redis.Channel._connparams, ["self", "asynchronous"]),
        (kombu_redis.Channel._get, ["self", "queue"]),
        (kombu_redis.Channel._put, ["self", "queue", "message", "kwargs"]),
        (kombu_redis.Channel._q_for_pri, ["self", "queue", "pri"]),
        (kombu_redis.Channel._maybe_update_queues_expire, ["self", "client", "queue"]),
        (kombu_redis.Channel._deliver_fanout_message, ["self", "message", "exchange"]),
        (kombu_redis.Channel._subscribe, ["self"]),
        (kombu_redis.Channel._unsubscribe_from, ["self", "queue"]),
        (kombu_redis.Channel._get_subscribe_topics, ["self", "queue"]),
        (kombu_redis.Channel._flush_brpop_reauth, ["self"]),
        (kombu_redis.Channel._disconnect_pools, ["self"]),
        (kombu_redis.Channel._close_clients, ["self"]),
        (kombu_redis.Channel.basic_consume, ["self", "queue", "args", "kwargs"]),
        (kombu_redis.QoS.restore_visible, ["self", "start", "num", "interval"]),
        (kombu_redis.QoS.restore_unacked, ["self", "client"]),
        (kombu_redis.MultiChannelPoller.on_readable, ["self", "fileno"]),
        (kombu_redis.MultiChannelPoller._pause_brpop, ["self", "channel", "fileno"]),
        (kombu_redis.MultiChannelPoller.get, ["self", "callback", "timeout"]),
        (kombu_redis.Transport.register_with_event_loop, ["self", "connection", "loop"]),
        (kombu_redis.Channel._purge, ["self", "queue"]),
        (
            kombu_redis.Channel._delete,
            ["self", "queue", "exchange", "routing_key", "pattern", "args", "kwargs"],
        ),
        (Hub.call_later, ["self", "delay", "callback", "args"]),
        (virtual.Channel._get_message_priority, ["self", "message", "reverse"]),
        (
            virtual.Channel._inplace_augment_message,
            ["self", "message", "exchange", "routing_key"],
        ),
        (virtual.Channel.basic_publish, ["self", "message", "exchange", "routing_key", "kwargs"]),
        (
            virtual.Channel.basic_consume,
            ["self", "queue", "no_ack", "callback", "consumer_tag", "kwargs"],
        ),
        (virtual.QoS.append, ["self", "message", "delivery_tag"]),
        (virtual.QoS.ack, ["self", "delivery_tag"]),
        (virtual.QoS.reject, ["self", "delivery_tag", "requeue"]),
        (virtual.QoS.can_consume_max_estimate, ["self"]),
        (virtual.Transport._deliver, ["self", "message", "queue"]),
        (virtual.Transport.establish_connection, ["self"]),
        (kombu_redis.Channel._get_publish_topic, ["self", "exchange", "routing_key"]),
    ],
)
def test_an_overridden_or_called_method_is_as_it_was(
    function: Callable[..., Any], parameters: list[str]
) -> None:
    """Another signature means another contract.

    Read the method that it names, and have the override in broker/transport/ keep to it.
    """
    assert _names(function) == parameters


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (kombu_redis.MultiChannelPoller._register_BRPOP, ["channel._brpop_start", "_in_poll"]),
        (kombu_redis.MultiChannelPoller.on_poll_start, ["can_consume()", "active_queues"]),
        (kombu_redis.MultiChannelPoller._update_brpop_polling, ["self._pause_brpop(channel, fd)"]),
        (kombu_redis.MultiChannelPoller.__init__, ["_fd_to_chan", "_paused_brpop"]),
        (kombu_redis.Transport.__init__, ["self.cycle = MultiChannelPoller()"]),
        (kombu_redis.Channel.__init__, ["'BRPOP': self._brpop_read", "_queue_cycle", "_expires"]),
        (kombu_redis.Channel._create_client, ["self.async_pool", "self.pool"]),
        (
            kombu_redis.Channel._connparams,
            ["self.max_connections", "self.socket_timeout", "self.socket_connect_timeout"],
        ),
        (kombu_redis.MultiChannelPoller._register_LISTEN, ["channel._subscribe()", "_in_listen"]),
        (kombu_redis.Channel._subscribe, ["self._in_listen = c.connection", "c.psubscribe(keys)"]),
        (kombu_redis.Channel._handle_message, ["== 'pmessage'", "None, r[1], r[2]"]),
        (kombu_redis.SentinelChannel._sentinel_managed_pool, ["self._sentinel_manager", ".alt"]),
        (virtual.QoS.__init__, ["self._delivered = OrderedDict()", "self._dirty = set()"]),
        (virtual.QoS.restore_unacked_once, ["self.restore_unacked()"]),
        (virtual.Channel.close, ["restore_unacked_once()"]),
        (virtual.Channel.basic_consume, ["self.connection._callbacks[queue]", "self.qos.append"]),
        (virtual.Transport._deliver, ["self._callbacks[queue]"]),
        (virtual.Transport.establish_connection, ["self._avail_channels.append("]),
        (Connection._ensure_connection, ["interval_start=2, interval_step=2, interval_max=30"]),
        (Connection.maybe_switch_next, ["self.cycle"]),
        (strategy.default, ["if req.eta:", "call_at("]),
        (
            Hub.create_loop,
            ["poll_timeout = fire_timers(", "for tick_callback in copy(self.on_tick)"],
        ),
        (celery_consumer.Consumer.on_unknown_task, ["reject_log_error", "task_unknown.send"]),
        (celery_consumer.Consumer.on_invalid_task, ["reject_log_error", "task_rejected.send"]),
        (celery_consumer.Consumer.on_close, ["scheduled_requests", "self.pool.flush()"]),
        (Request.execute_using_pool, ["self._apply_result"]),
        (ApplyResult.discard, ["self._cache.pop(self._job"]),
        (ApplyResult.__init__, ["self._accepted = False"]),
        (asynpool.AsynPool.flush, ["if not job._accepted", "job.discard()", "job._write_to"]),
        (threads.ApplyResult.__init__, ["self.f = "]),
    ],
)
def test_the_code_around_an_override_still_leads_to_it(
    owner: Callable[..., Any], words: list[str]
) -> None:
    """An override is worth nothing if nobody calls it any more.

    Find what is called in its place, and override that in broker/transport/ or celery_worker.py.
    """
    source = inspect.getsource(owner)
    assert [word for word in words if word not in source] == []


def test_the_workers_state_and_signals_are_where_they_were() -> None:
    """From them follows what runs, what waits, and whether the worker ends.

    If one is gone, see what broker/celery_worker.py asks, and where Celery keeps it now.
    """
    for name in ("active_requests", "reserved_requests", "should_stop", "should_terminate"):
        assert hasattr(state, name)
    assert "message" in task_signals.task_unknown.providing_args
    assert "message" in task_signals.task_rejected.providing_args


def test_every_option_of_kombus_channels_is_heeded() -> None:
    """Except for switching acks off, which would hold messages for ever.

    If one is new, name it in `from_transport_options` of broker/transport/channel.py, or refuse it.
    """
    assert set(kombu_redis.Channel.from_transport_options) - set(
        Channel.from_transport_options
    ) == {"ack_emulation"}
    stock = set(kombu_redis.SentinelChannel.from_transport_options)
    assert stock - set(SentinelChannel.from_transport_options) <= {"ack_emulation"}


def test_the_transports_use_our_channels() -> None:
    """And pass for Redis with Celery, which asks for the driver's type.

    If Celery does not know the type, priorities and `inspect` go wrong: see who asks for it.
    """
    assert Transport.Channel is Channel
    assert SentinelTransport.Channel is SentinelChannel
    assert Transport.driver_type == "redis"


def test_a_command_for_workers_is_broadcast_on_a_channel_that_is_given() -> None:
    """jobs/sending/message.py has `revoke` made so, on a channel that only records it.

    If that is not possible any more, `Enqueuer.cancel` leaves running jobs alone: see what
    `celery.app.control.Control.revoke` calls now.
    """
    mailbox: Any = Mailbox
    names = _names(mailbox._broadcast)
    assert names[:3] == ["self", "command", "arguments"]
    assert "channel" in names
    assert _names(Mailbox.__init__)[1:3] == ["namespace", "type"]
    assert {"connection", "clock", "accept", "serializer"} <= set(_names(Mailbox.__init__))


def test_a_serializer_may_be_registered_anew() -> None:
    """broker/decoding.py gives the process a faster JSON decoder, by Kombu's documented call.

    If the first one stays, only the speed is lost; unit/broker/test_decoding.py says that both
    decode alike.
    """
    assert _names(serialization.register)[:3] == ["name", "encoder", "decoder"]
    source = inspect.getsource(serialization.SerializerRegistry.register)
    assert "self._decoders[content_type] = decoder" in source


def test_a_refusal_while_connecting_is_tried_again() -> None:
    """transport.py raises ResponseError where Redis takes no writes, and Celery then pauses.

    If Kombu does not count it as recoverable any more, raise redis-py's ConnectionError there.
    """
    connection = Connection("redis://", transport=Transport)
    assert issubclass(ResponseError, connection.recoverable_connection_errors)


def test_kombu_tells_which_classes_its_json_was_taught() -> None:
    """Else tasks with these in their annotations are refused: see jobs/codecs/msgspec_codec.py."""
    kombu_json: Any = import_module("kombu.utils.json")
    assert set(kombu_json._encoders) >= {datetime, Decimal, UUID}
