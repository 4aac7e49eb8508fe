"""The pages for operators, under /dashboard.

    views         the dashboard, its updates as an event stream, and all failures
    queries       which of the recent jobs an address asks for
    many          asks once more, and then retries, cancels or drops many jobs
    queues        shows one queue, pauses and resumes it
    tasks         shows one task, pauses and resumes it
    pausing       does what both are asked
    dead_letters  shows dead letters, replays and drops them
    job/          what the page of a job, which is the web's, shows to operators besides
    audit         shows what operators did
    sign_in       lets only callers with a role see the others; takes the admin token for a cookie

The templates and scripts are in `templates/` and `static/` of `service.dashboard`. They
extend the layout and import `_parts.html` of `service.web`; the scripts are served beside its own,
as `static/dashboard/`, and import those.
"""
