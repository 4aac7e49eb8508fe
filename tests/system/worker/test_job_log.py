"""What a job logs and prints is kept as its own, under each pool."""

from typing import Any

import pytest

from service.parts import parts_of
from service.redis.keys import ResultKeys
from service.results.job_log import LogLine, read_log
from tests.support import sample_tasks as sample
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import Worker

POOLS = ("asyncio", "prefork")
LAST = "x" * 100


@pytest.mark.parametrize("shared_worker", POOLS, indirect=True)
async def test_each_attempt_has_its_log(shared_worker: Worker) -> None:
    """A body in a thread, and one on the loop with a child task and a thread, and a retry."""
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        parts = parts_of(app)
        kept: dict[str, list[list[LogLine]]] = {}

        async def logs_of(job_id: str, attempts: int) -> bool:
            keys: Any = await parts.redis.keys(ResultKeys().job_log(job_id, "*"))
            parts_ = [await read_log(parts.redis, key.decode()) for key in sorted(keys)]
            kept[job_id] = [part.lines for part in parts_]
            ends = [any(each.text.startswith(LAST) for each in lines) for lines in kept[job_id]]
            return ends == [True] * attempts

        sync = await sample.write_log.enqueue("ada")
        retried = await sample.write_log_async.enqueue("bob")
        for job, name, attempts in ((sync, "ada", 1), (retried, "bob", 2)):
            await job.result(timeout=20)
            await wait_until_async(
                lambda job=job, attempts=attempts: logs_of(job.id, attempts),  # type: ignore[misc]  # mypy: no type of a lambda's default
                description=f"the log of {name} is whole: {kept}",
            )
            for lines in kept[job.id]:
                told = [(each.level, each.source, each.text) for each in lines]
                assert (20, "tests.kept", f"hello {name}") in told
                assert (0, "stdout", f"a 1 {name}") in told
                assert (0, "stderr", "100 % done") in told
                assert ((20, "tests.kept", f"child of {name}") in told) == (name == "bob")
                assert any("ValueError: ('plain', 7)" in text for _, _, text in told)
                others = {"ada", "bob"} - {name}
                assert not [text for _, _, text in told if any(o in text for o in others)]
