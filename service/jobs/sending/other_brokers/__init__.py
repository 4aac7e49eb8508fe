"""Publishes on brokers other than the service's Redis.

rabbitmq_publisher.py  RabbitMQ: on the event loop, many messages at once
tries.py               publishes there until a message is taken, or the time is over
declared_queues.py     the queues that this process has declared on RabbitMQ
kombu_publisher.py     any other: by Kombu, on a few threads
publisher_threads.py   a few threads for calls that wait for the broker
thread_connections.py  Kombu's connections, one for each of these threads
begun_calls.py         finishes what was begun for a caller that goes away
unsent.py              marks the records of jobs whose messages are still to be published
turns.py               lets callers go on, a few in each turn of the event loop
call_template.py       a task's publish call with gaps; filling one is the fast way

Record and message cannot be written in one step here: a record is written first, and marked as
unsent where its caller may enqueue the job again.
This room imports the rest of jobs, results, rabbitmq, redis and errors.
"""
