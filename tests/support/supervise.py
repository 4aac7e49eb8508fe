"""Runs the supervisor of `service dev` on commands of a test's own, given as JSON.

python -m tests.support.supervise '[[{"name": "a", "argv": ["sleep", "9"]}]]' [temporary folder]
"""

import asyncio
import json
import sys
from pathlib import Path

from service.dev.guardian import Guardian
from service.dev.supervisor import Command, supervise
from service.errors import DevServerError


def main(stages: str, temporary: str | None = None) -> None:
    """Supervise until a signal comes; exit with 1 and the reason like the real command."""
    commands = [
        [Command(**{**fields, "argv": tuple(fields["argv"])}) for fields in stage]
        for stage in json.loads(stages)
    ]
    with Guardian(Path(temporary) if temporary else None) as guardian:
        try:
            asyncio.run(
                supervise(commands, guardian=guardian, opening="opening", when_ready="all ready")
            )
        except DevServerError as error:
            sys.exit(f"reason: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
