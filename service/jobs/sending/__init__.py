"""Sends jobs from async code: the only code that publishes.

enqueuer.py           has calls and canvases sent by the publisher of the app's broker; cancels jobs
redis_publisher.py    the service's Redis: messages from templates, written in batches
  templates/            the messages of a task, from what Celery made of a first one
  message.py            what is asked and answered; any message, by Celery's and Kombu's own code
  batch.py              gathers messages; enqueue.lua writes record and message in one step
  journal.py            sends in whole what is too long for one step
kombu_publisher.py    other brokers: record, publish by Kombu in a thread, change the record
canvas.py             reads chains, groups and chords by Celery's own code

A job without options goes: enqueuer, template, batch, Redis; with options: enqueuer, Celery's
`apply_async` into a capture, message builder, batch, Redis. A canvas is read and built in a thread,
a hundred jobs at a time. Runs on the event loop of the caller.
This room imports the rest of jobs, results, redis, signals and errors.
"""
