"""Makes dead letters as the broker keeps them; runs the command for them."""

import json
import os
import subprocess
import sys
from typing import Final

from tests.support.process import ROOT

DEAD: Final = "celery.dead"  # the list of the default queue's
ENDLESS: Final = "Delivered 5 times without an end."


def dead_letter(job_id: str, task: str, args: list[object], reason: str = ENDLESS) -> str:
    """One whose job can be replayed."""
    letter = {
        "message": json.dumps(message_of(job_id, task, args)),
        "queue": "celery",
        "reason": reason,
        "deliveries": 5,
        "at": 1_700_000_000.5,
    }
    return json.dumps(letter)


def message_of(job_id: str, task: str, args: list[object]) -> dict[str, object]:
    """A message as Kombu keeps it in a queue."""
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None}])
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": job_id, "task": task, "lang": "py", "root_id": job_id, "retries": 0},
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": None,
            "delivery_tag": job_id,
        },
    }


def dead_letters_command(
    *arguments: str, redis_url: str, check: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `service dead-letters` to its end; `check` has it fail unless that is a good one."""
    return subprocess.run(
        [sys.executable, "-m", "service", "dead-letters", *arguments],
        env={**os.environ, "SERVICE_REDIS_URL": redis_url, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=check,
    )
