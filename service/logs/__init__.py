"""How log records become lines, in text and as JSON, of web and worker alike.

lines.py       text: nothing that others have written begins a line, or colours a terminal
json_lines.py  JSON: one object for each record (`SERVICE_LOG=json`)
ids.py         the id of the request that the code works for, and those of its trace
handlers.py    gives a web process's handlers these lines, where the user has set none up

The worker's handlers are Celery's: worker/log_records.py gives them these lines, and knows of jobs.
"""
