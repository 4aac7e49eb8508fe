"""`service queues` tells how much waits in each queue."""

import json

from click.testing import CliRunner
from quart.cli import ScriptInfo
from redis import Redis

from service import create_app
from service.cli.queues import queue_lengths


def test_what_waits_and_what_is_scheduled_in_redis(redis_url: str) -> None:
    """As a table, or as JSON; of the queues of the settings, or of those that are named."""
    with Redis.from_url(redis_url) as redis:
        redis.lpush("celery", "one", "two")

        def told(*arguments: str) -> str:
            info = ScriptInfo(create_app=lambda: create_app({"SERVICE_REDIS_URL": redis_url}))
            return CliRunner().invoke(queue_lengths, arguments, obj=info).stdout

        nothing = {"waiting": 0, "scheduled": 0, "paused": 0, "consumers": None}
        assert json.loads(told("--json", "celery", "mails")) == [
            {"name": "celery", **nothing, "waiting": 2},
            {"name": "mails", **nothing},
        ]
        header, row = told().splitlines()
        assert header.split() == ["queue", "waiting", "scheduled", "paused", "consumers"]
        assert row.split() == ["celery", "2", "0", "0", "unknown"]
        redis.delete("celery")
