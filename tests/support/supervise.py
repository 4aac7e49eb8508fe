"""Runs the supervisor of `service dev` on commands of a test's own, given as JSON.

python -m tests.support.supervise '[[{"name": "a", "argv": ["sleep", "9"]}]]' [temporary] [watched]
"""

import asyncio
import json
import sys
from pathlib import Path

from service.dev.changes import watch
from service.dev.supervisor import Command, Course, supervise
from service.errors import DevServerError
from service.processes.guardian import Guardian


def main(stages: str, temporary: str = "", watched: str = "") -> None:
    """Supervise until a signal comes; exit with 1 and the reason like the real command."""
    commands = [
        [Command(**{**fields, "argv": tuple(fields["argv"])}) for fields in stage]
        for stage in json.loads(stages)
    ]
    changes = watch(Path(watched)) if watched else None
    course = Course(opening="opening", when_ready="all ready", changes=changes)
    with Guardian(Path(temporary) if temporary else None) as guardian:
        try:
            asyncio.run(supervise(commands, guardian=guardian, course=course))
        except DevServerError as error:
            sys.exit(f"reason: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
