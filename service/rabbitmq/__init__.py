"""Speaks AMQP to RabbitMQ on the event loop: the only room that knows py-amqp.

packing.py     messages that differ in a few headers only, packed
frames.py      the frames of a socket that the event loop reads and writes
publishing.py  the channels of a connection that publish, each message confirmed
connection.py  one connection: what it publishes, and questions about queues
client.py      keeps a connection: makes a lost one anew in the background
recent_counts.py  how many messages queues have, looked at once in two seconds

Kombu opens a connection in a thread, with its own code for addresses, nodes, TLS and passwords;
the event loop then reads and writes the socket. Frames are made and read by py-amqp's code, which
Kombu's producers use as well: a message has the same bytes as if Celery had published it. What
comes most often is packed and unpacked here, for a part of the time: messages of one task, and
confirmations. aiormq
and aio-pika would not do: they give each message an id of their own, and encode numbers otherwise.
This room imports redis, for deadlines, and errors.
"""
