"""Pins what service/rabbitmq leans on in py-amqp and Kombu: some of it is not promised.

When one of these fails after an upgrade, look at frames.py and connection.py there, and at
rabbitmq_publisher.py: a message that is framed otherwise is refused, and with it all others. A
worker's connection is read by service/worker/rabbitmq/buffering.py.
"""

import inspect
import socket
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import Message, spec
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps, loads
from celery.app.trace import build_tracer
from celery.backends.redis import RedisBackend
from kombu import Connection as KombuConnection
from kombu import Producer
from kombu.pools import ProducerPool
from kombu.transport import pyamqp

from service.rabbitmq.frames import FrameStream, OpenedSocket
from service.rabbitmq.packing import PUBLISH_FORM, PackedTemplate

# Their stubs do not know these names.
Channel: Any = import_module("amqp.channel").Channel
Connection: Any = import_module("amqp.connection").Connection
transport: Any = import_module("amqp.transport")
celerys_amqp: Any = import_module("celery.app.amqp")


def test_frames_are_counted_and_written_by_two_attributes_each() -> None:
    """FrameStream is both the connection and the transport that py-amqp's code asks for."""
    written: list[bytes] = []
    stream = SimpleNamespace(
        bytes_sent=0,
        bytes_recv=0,
        frame_max=131_072,
        write=lambda data: written.append(bytes(data)),
    )
    write: Any = frame_writer(stream, stream)
    write(1, 2, spec.Queue.Declare, dumps("s", ("queue",)), None)
    write(8, 0, None, None, None)
    assert stream.bytes_sent == 2
    assert written[1] == b"\x08\x00\x00\x00\x00\x00\x00\xce"

    seen: list[Any] = []
    handle: Any = frame_handler(stream, lambda *method: seen.append(method))
    begin, end = 7, len(written[0]) - 1
    handle((1, 2, written[0][begin:end]))
    (channel, method, packed, message) = seen[0]
    assert (channel, method, message, stream.bytes_recv) == (2, spec.Queue.Declare, None, 1)
    assert loads("s", packed, 4)[0] == ["queue"]


@pytest.mark.parametrize(
    ("method", "form"),
    [
        (spec.Basic.Ack, "Lb"),
        (spec.Basic.Nack, "Lb"),
        (spec.Basic.Return, "Bsss"),
        (spec.Queue.DeclareOk, "sll"),
        (spec.Channel.Close, "BsBB"),
    ],
)
def test_methods_of_a_channel_have_these_arguments(method: Any, form: str) -> None:
    """As RabbitConnection reads them."""
    assert Channel._METHODS[method].args == form


def test_publishing_and_asking_pack_their_arguments_so() -> None:
    """As RabbitConnection sends them."""
    for function, form in (
        (Channel._basic_publish, "Bssbb"),
        (Channel.queue_declare, "BsbbbbbF"),
        (Channel.basic_qos, "lBb"),
        (Connection.close, "BsBB"),
        (Channel.close, "BsBB"),
    ):
        assert inspect.signature(function).parameters["argsig"].default == form
    assert "spec.Confirm.Select, 'b', (nowait,)" in inspect.getsource(Channel.confirm_select)
    blocked = spec.Connection.Blocked, spec.Connection.Unblocked
    assert {*blocked} <= Connection._METHODS.keys()


def test_a_socket_can_be_taken_from_its_transport() -> None:
    """Nothing is left in its buffer: it reads no further than to the end of a frame."""
    for kind in (transport.TCPTransport, transport.SSLTransport):
        assert "recv(n - len(rbuf))" in inspect.getsource(kind._read)
    closing = inspect.getsource(transport._AbstractTransport.close)
    assert "if self.sock is not None" in closing


def test_a_transport_reads_and_writes_by_what_a_worker_puts_in_its_place() -> None:
    """BufferedTransport reads on into the same buffer, and knows whether it has a whole frame."""
    for kind in (transport.TCPTransport, transport.SSLTransport):
        assert "self._quick_recv = self.sock." in inspect.getsource(kind._setup_transport)
        reading = inspect.getsource(kind._read)
        assert "recv = self._quick_recv" in reading
        assert "result, self._read_buffer = rbuf[:n], rbuf[n:]" in reading
    assert "self._write(s)" in inspect.getsource(transport._AbstractTransport.write)
    framing = inspect.getsource(transport._AbstractTransport.read_frame)
    assert "frame_type, channel, size = unpack('>BHI', frame_header)" in framing
    assert "self.on_inbound_frame(frame)" in inspect.getsource(Connection.blocking_read)


def test_a_message_packs_its_properties_when_it_is_framed() -> None:
    """Before anything of it is written: so one that cannot be packed is not sent."""
    writing = inspect.getsource(frame_writer)
    assert writing.index("content._serialize_properties()") < writing.index("            write(")


@pytest.mark.parametrize("size", [0, 10, 5_000])
@pytest.mark.parametrize("owner", [None, "ä\ud800" * 70])
async def test_a_packed_message_has_the_frames_of_py_amqp(size: int, owner: str | None) -> None:
    """Also where its body needs several frames, which py-amqp's code then makes.

    The name of a file that is not UTF-8 has half of a surrogate pair.
    """
    headers = {"task": "t", "id": "one", "shown": "(1,)", "n": 2**40, "none": None, "list": [1]}
    headers |= {"owner": owner} if owner else {}

    def message(job_id: str, body: str) -> Message:
        return Message(
            body,
            content_type="application/json",
            content_encoding="utf-8",
            application_headers={**headers, "id": job_id, "shown": f"({job_id},)"},
            delivery_mode=2,
            priority=3,
            correlation_id=job_id,
            reply_to="me",
        )

    to = 0, "exchange", "key", True, False
    template = PackedTemplate.of(message("one", "x"), to, {"id", "shown", "owner"})
    assert template is not None
    body = "[" + "x" * size
    texts = {"id": "another", "shown": "(another,)", "owner": owner or ""}
    packed = template.fill(texts, body.encode(), "another")
    ours = _written(lambda stream: stream.send_packed(7, packed))
    theirs = _written(
        lambda stream: stream.send(
            7, spec.Basic.Publish, PUBLISH_FORM, to, message("another", body)
        )
    )
    assert ours == theirs


def _written(send: Callable[[FrameStream], None]) -> bytes:
    """What a stream, with frames of 4096 bytes at most, has written."""
    here, there = socket.socketpair()
    here.setblocking(False)
    stream = FrameStream(OpenedSocket(here, 4096, 0), lambda *_: None, lambda: None)
    send(stream)
    stream.flush()
    stream.lose("the test ends")
    with there, there.makefile("rb") as file:
        return file.read()


def test_kombus_producer_gives_what_the_channels_publish_gives() -> None:
    """The encoder stands for the channel, and its answer is the message."""
    assert "return channel.basic_publish(" in inspect.getsource(Producer._publish)
    assert list(inspect.signature(pyamqp.Channel.prepare_message).parameters)[:2] == [
        "self",
        "body",
    ]


def test_kombus_producer_publishes_with_these_arguments() -> None:
    """MarkingProducer (jobs/celery/connections.py) has the headers by their place, and `retry`.

    Kombu and Celery hand the same headers to each try; a pool makes producers of its own class.
    """
    names = [*inspect.signature(Producer._publish).parameters]
    assert names[5] == "headers"
    assert names[-2:] == ["retry", "retry_policy"]
    call = inspect.getsource(Producer.publish)
    assert "headers, properties, routing_key, mandatory, immediate," in call
    assert "timeout, confirm_timeout, retry, retry_policy" in call
    assert "self.Producer(conn)" in inspect.getsource(ProducerPool.create_producer)


def test_what_follows_a_job_is_published_through_one_method() -> None:
    """Which has a failure tried again as the policy of the call says, and its own errors."""
    source = inspect.getsource(build_tracer) + inspect.getsource(RedisBackend.on_chord_part_return)
    assert source.count("app.amqp._retry_publish(") == 5
    assert celerys_amqp._callback_publish_max_retries({"max_retries": 7}, {}) == 7
    assert "*retry_errors" in inspect.getsource(celerys_amqp._publish_retry_errors)
    assert "retry_errors" in inspect.signature(KombuConnection.ensure).parameters
