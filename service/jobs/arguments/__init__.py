"""What a task takes and returns, and the options of one call.

arguments.py   checks a call against the function's signature; makes JSON of its arguments, and back
parameters.py  reads the parameters of a function, each with the codec of its annotation
options.py     the options of one `enqueue`

A call is checked, and made JSON, before it is sent; a worker makes values of the JSON before the
body, and JSON of what the body returns; `await job.result()` makes a value of that again.
"""

from service.jobs.arguments.arguments import Arguments
from service.jobs.arguments.options import (
    NO_OPTIONS,
    SendOptions,
    check_owner,
    send_options,
    tags_of,
)
from service.jobs.arguments.parameters import TaskParameter

__all__ = [
    "NO_OPTIONS",
    "Arguments",
    "SendOptions",
    "TaskParameter",
    "check_owner",
    "send_options",
    "tags_of",
]
