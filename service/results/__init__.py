"""What is known of jobs: the record of each, written, read, changed and followed.

model.py     State, Progress, JobError and Result: a record that was decoded
marks.py     what a record says behind its state: the job's owner, its idempotency key
short.py     shortens what a record, or a log, says of errors
record.py    encodes a record in every state; alone knows that the state stands first
decoding.py  decodes a record of ours or of stock Celery
attempt.py   tells by a record whether the attempt that a message asks for has ended before
job_log.py   the lines that an attempt logs: written as JSON, and read
store.py     reads one record, or compares and sets it, within a timeout
feed.py      one connection on which records are read and their changes heard, in one order
follower.py  an async iterator over the changes of some jobs, for one reader
watcher.py   lets followers, up to SERVICE_MAX_WAITERS, share a feed; makes it again when it is lost

A publisher writes the first record of a job, QUEUED, together with the message; a worker writes the
others by a writer of its own (service/worker). Each write of a worker is published on the channel
of the key's name. A follower subscribes first, then reads, then waits, so that it misses no change.

This room imports redis, settings and errors. It knows neither Celery's app nor HTTP.
"""
