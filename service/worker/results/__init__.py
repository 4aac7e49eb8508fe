"""The records of the jobs that a worker runs: built, written and read.

    record_builder  decides what the record of each state says, by Celery's request and settings
    writer          writes from the event loop, many records at once; or one where code may block
    reader          reads from the event loop, many records at once
    store.lua       stores records, but none over that of a job that has ended

The backend builds a RecordWrite and gives it to the writer on the loop, or to `store_blocking`
elsewhere. Both go on until Redis has it: a job is acknowledged only after that.
"""
