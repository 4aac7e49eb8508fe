"""A replica takes over that lagged behind: no job is lost whose acceptance it had to have."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from celery import group
from quart import Quart

from service import JobGroup, create_app, enqueue, get_celery
from service.errors import BrokerUnavailableError
from service.parts import parts_of
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

_JOBS = 300
_Send = Callable[[Quart, int], Awaitable[list[str]]]


@pytest.fixture
async def replica(own_valkey: Valkey, tmp_path: Path) -> AsyncIterator[Valkey]:
    """A replica of the server, which has caught up with it."""
    folder = tmp_path / "replica"
    folder.mkdir()
    config = {"replicaof": f"127.0.0.1 {own_valkey.port}", "repl-diskless-load": "swapdb"}
    with own_valkey.client() as master, Valkey(folder, config) as replica:
        master.config_set("repl-diskless-sync-delay", 0)
        wait_until(
            lambda: master.wait(1, 100) == 1, timeout=30, description="the replica has caught up"
        )
        yield replica


async def _send_jobs(app: Quart, count: int) -> list[str]:
    """Enqueue one by one; the ids of those that were accepted."""
    enqueuer = parts_of(app).enqueuer
    sending = (enqueuer.enqueue("demo.my_add", (1, 2), {}) for _ in range(count))
    outcomes: list[Any] = await asyncio.gather(*sending, return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, BrokerUnavailableError)]
    assert not refused or refused[0].maybe_accepted  # the last were not sent in their time
    return [each.id for each in outcomes if each not in refused]


async def _send_canvas(app: Quart, count: int) -> list[str]:
    """The same in one group, which is sent in many steps."""
    add = get_celery(app).tasks["demo.my_add"]
    canvas = group([add.s(1, 2) for _ in range(count)])
    sent: Any = (await asyncio.gather(enqueue(canvas), return_exceptions=True))[0]
    if isinstance(sent, JobGroup):
        return [job.id for job in sent.jobs]
    assert isinstance(sent, BrokerUnavailableError)
    assert sent.maybe_accepted
    return []


def _app(url: str, replicas: int) -> Quart:
    return create_app(
        {
            "SERVICE_REDIS_URL": url,
            "SERVICE_MIN_REPLICAS": replicas,
            "SERVICE_ENQUEUE_TIMEOUT": 1.0,
        }
    )


@pytest.mark.parametrize("send", [_send_jobs, _send_canvas])
async def test_what_was_accepted_is_on_the_replica(
    own_valkey: Valkey, replica: Valkey, send: _Send
) -> None:
    """While it lags, no job is accepted; without the setting all of them are, and lost."""
    app = _app(own_valkey.url, 1)
    async with app.test_app(), app.app_context():
        before = await send(app, _JOBS)
        assert len(before) == _JOBS
        with own_valkey.client() as master:  # what a canvas's journal became
            wait_until(lambda: master.wait(1, 1000) == 1, description="the replica has all of it")
            replica.freeze()
            master.client_kill_filter(_type="replica")  # what is on its way is lost, too
        meanwhile = await send(app, _JOBS)
        own_valkey.kill()
    replica.thaw()
    with replica.client() as redis:
        redis.replicaof("NO", "ONE")
        queued = redis.lrange("celery", 0, -1)
        journals = redis.zcard("service:journals")
    lost = [job for job in before + meanwhile if not any(job in message for message in queued)]
    print(f"accepted {len(before + meanwhile)}, lost {len(lost)}")  # noqa: T201  in the report
    assert not meanwhile
    assert not lost
    assert journals == 0
