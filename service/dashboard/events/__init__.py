"""Records job events, and reads them back.

    recorder   takes the job events of this process; every second a thread reports them to Redis
    report.lua the one step that takes a report: events, worker statuses, counts, failures
    stats      counts events by task and queue, in buckets of ten seconds and of five minutes
    history    keeps these counts, and makes the rows of charts of them
    oldest.lua since when the first message of a queue waits
    queues     reads the queues and what is paused, and how fast queues fill
    failures   groups failures by error and place
    recent     the most recent jobs in memory: filtered, searched, sorted, in pages
    lanes      lays out what ran within the last minute, by worker or by task
    reader     reads the stream, the counts and the workers into memory
    stored     reads what workers and jobs have stored themselves
    snapshot   what the reader found at one moment, and the figures of tiles and tables

job_changed -> recorder and stats -> report.lua -> Redis -> reader -> recent, history and snapshot

Threads: any thread may record; one thread per process reports, in a worker the reporter's. The
reader belongs to the event loop. Imports results, Redis, signals, and the parts of the app.
"""
