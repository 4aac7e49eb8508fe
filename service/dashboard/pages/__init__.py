"""The pages for operators, under /dashboard.

    views         the dashboard, and its updates as an event stream
    dead_letters  shows dead letters, replays and drops them
    sign_in       asks for the admin token, and guards the other two by a signed cookie

The templates and scripts are in `templates/dashboard/` and `static/` of `service.dashboard`; the
blueprint of `sign_in` serves both. They extend `base.html` and import `_parts.html` of
`service.web`, and the scripts import those of its `static/`.
"""
