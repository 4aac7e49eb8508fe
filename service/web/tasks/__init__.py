"""Jobs to be started: the task API and the front page.

tasks.py    /tasks: those that the caller may start, with their schemas; starting a job with JSON
pages.py    the front page, and starting a job by its forms
docs.py     /docs: the interface for people, with a form for each task
forms.py    a form's fields from a task's schema, and a task's arguments from what a form posts
schemas.py  the members of a schema for people, and arguments that fit it

A request's arguments are checked against the task's signature and annotations before the job is
enqueued; what does not fit is a 422 that names the argument. A task
that a caller may not start is as one that does not exist.
"""
