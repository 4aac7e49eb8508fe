"""The page of a job, which is the web's, as operators see it, and what they do there.

details    all that the page shows besides: how it ended, where it is, why it does not run
attempts   the attempts of a job
family     the jobs around it
actions    cancels a job, runs it now, or again
logs       what it has logged and printed, pushed to the page, and as text
log_lines  the lines of that, safe to show
frames     tells the user's own frames of a traceback from others
"""
