"""The user's room: tasks, one module for each topic.

demo.py  the tasks that the front page starts; delete it once there are tasks of your own

A new module here is found by itself; each has a TaskBlueprint, whose name begins the names of its
tasks. It imports `service.jobs` (TaskBlueprint, current_job, report_progress) and whatever else its
tasks work with. Routes in service/web import tasks from here, to enqueue them.

A task's options, such as its retries and limits, are arguments of `@blueprint.task(…)`.
"""
