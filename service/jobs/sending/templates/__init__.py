"""Makes the messages of a task from what Celery made of a first one.

message_template.py   a task's message with gaps; filling one is the fast way
observed_calls.py     the same for receivers of Celery's signals, who see and change each message

What differs from job to job is the id, the arguments, the time, the owner and the request. A job
with other options, or of a task whose messages differ in more, has its message made by Celery.
The call templates of RabbitMQ (other_brokers/) share how arguments are shown and encoded.
"""
