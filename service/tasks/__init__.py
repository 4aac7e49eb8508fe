"""The user's room: tasks, one module for each topic.

demo.py  the tasks that the front page starts; delete it once there are tasks of your own

A new module here is found by itself; each has a TaskBlueprint, whose name begins the names of its
tasks. A module imports `service.jobs` (TaskBlueprint, current_job, report_progress) and whatever it
works with. Routes in service/web import tasks from here; nothing below that room does.
"""
