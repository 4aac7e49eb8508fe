"""What a worker does where its broker is RabbitMQ; all but buffering is for quorum queues.

    buffering.py   reads and writes the consumer's connection in large pieces
    consumer.py    Celery's consumer, which survives what RabbitMQ closes its channel for
    suspects.py    bounds how many jobs run at once that have come back before
    kept.py        keeps jobs going that outlive the consumer_timeout; holds second messages
    burying.py     buries what RabbitMQ has dead-lettered: FAILURE, and a dead letter
      letters.py     what RabbitMQ has dead-lettered, as the broker's dead letters
    starts.py      counts how often a suspect was begun

Celery finds the consumer by `worker_consumer`; a worker with another broker has nothing of this
room. What has to be declared is declared by jobs/celery/quorum.py, for whoever publishes needs it
too. The consumer runs in the main thread, burying in a thread of its own.

May import jobs and broker, and of this room's neighbours `task`.
"""
