"""Jobs that exist: read, waited for, streamed and cancelled over HTTP.

results.py    /result/<id>: now, at the next change (`?wait=`), as server-sent events; cancelling
job_cards.py  /jobs: what pages show of their jobs, at once, at the next change, or streamed
operators.py  what operators see of a job besides; the dashboard has it
views.py      a job as JSON, and as people read it: its words and its timeline

A change comes from a Follower of `service.results`, already decoded; each module only makes JSON or
HTML of it. web/http/streams.py writes the text of an event.
It imports web/http, parts, jobs and results; `web/tasks` stands on it. All runs on the event loop.
"""
