"""What a worker does where its broker is RabbitMQ with quorum queues.

    consumer.py    Celery's consumer, which survives what RabbitMQ closes its channel for

Celery finds the consumer by `worker_consumer`; a worker with another broker has nothing of this
room. What has to be declared is declared by jobs/celery/quorum.py, for whoever publishes needs it
too. The consumer runs in the main thread.

May import jobs and broker, and of this room's neighbours those below the pool.
"""
