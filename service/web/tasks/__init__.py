"""Jobs to be started: the task API and the front page.

tasks.py  /tasks: the public tasks with their schemas, and starting a job with JSON
pages.py  the front page, and starting a job by its forms
forms.py  a form's fields from a task's schema, and a task's arguments from what a form posts
"""
