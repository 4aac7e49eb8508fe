"""A job's log: kept in Redis within bounds, and shown to operators, safely, as it comes."""

import json
import re
from typing import Any, Final

from quart import Quart
from quart.typing import TestClientProtocol as Client
from redis import Redis

from service.redis.keys import RECORD, ResultKeys
from service.results.job_log import MAX_BYTES, LogLine, make_line, read_log
from service.settings import read_settings
from service.worker.job_log.writer import JobLogs
from tests.support.site import TOKEN
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

ADMIN: Final = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
EVENTS: Final = {**ADMIN, "Accept": "text/event-stream"}
KEYS: Final = ResultKeys()
BEGAN: Final = "2026-01-02T03:04:05.000600+00:00"
EVIL: Final = "<script>\x1b[31mred\x1b[0m \x07\x9b \u202e"


def write(redis_url: str, job_id: str, *lines: LogLine, ends: bool = True, **more: Any) -> None:
    """What a worker does whose job logs these lines."""
    logs = JobLogs(read_settings({"SERVICE_REDIS_URL": redis_url, **more}))
    for line in lines:
        logs.buffer.add((job_id, BEGAN), line)
    if ends:
        logs.buffer.end((job_id, BEGAN))
    logs.wake()
    logs.close()


def stream(redis: Redis, key: str) -> Any:
    return redis.xrange(key)


def line(text: str, level: int = 20, source: str = "shop") -> LogLine:
    return make_line(1_767_323_045.5, level, source, text)


def store(redis: Redis, state: str, **more: Any) -> None:
    record = {"status": state, "result": None, "name": "demo.my_add", "started_at": BEGAN, **more}
    redis.set(f"{RECORD}one", json.dumps(record), ex=60)


async def test_redis_keeps_the_last_lines(redis_url: str, app: Quart, redis: Redis) -> None:
    """Of an attempt so many bytes, and for as long as its record."""
    key = KEYS.job_log("one", BEGAN)
    for run in range(3):
        lines = [line(f"{run} {number} " + "x" * 500) for number in range(400)]
        write(redis_url, "one", *lines, ends=run == 2, SERVICE_RESULT_EXPIRES=60)
        assert (int(redis.ttl(key)) > 60) == (run < 2)
    part = await read_log(app.extensions["service"].redis, key)
    assert part.is_cut
    assert part.lines[-1].text.startswith("2 399 ")
    kept, entries = int(str(redis.hget(KEYS.job_logs_bytes, key))), stream(redis, key)
    assert MAX_BYTES * 0.8 < kept <= MAX_BYTES
    assert kept == sum(len(fields["lines"]) for _, fields in entries)


def test_redis_keeps_the_newest_logs(redis_url: str, redis: Redis) -> None:
    """Of all jobs together so many bytes; what has expired counts no more."""
    for number in range(6):
        text = str(number) * 1_000
        write(redis_url, f"job-{number}", line(text), SERVICE_MAX_JOB_LOGS=3_500)
        if number == 3:
            assert redis.exists(KEYS.job_log("job-2", BEGAN))
            redis.zadd(KEYS.job_logs, {KEYS.job_log("job-2", BEGAN): 1})
    kept = {key.split(":")[2] for key in redis.scan_iter("service:log:*")}
    assert {"job-4", "job-5"} <= kept
    assert len(kept) <= 4
    sizes: Any = redis.hgetall(KEYS.job_logs_bytes)
    assert int(sizes.pop("")) == sum(map(int, sizes.values())) <= 3_500
    assert set(sizes) == {*redis.zrange(KEYS.job_logs, 0, -1)}


def test_lines_wait_while_redis_is_away(own_valkey: Valkey) -> None:
    """In their order, with the end of the attempt; no caller waits."""
    logs = JobLogs(read_settings({"SERVICE_REDIS_URL": own_valkey.url}))
    own_valkey.stop()
    for text in ("first", "second"):
        logs.buffer.add(("one", BEGAN), line(text))
    logs.buffer.end(("one", BEGAN))
    logs.wake()
    wait_until(lambda: logs.is_failing, description="the writer has seen that Redis is away")
    logs.buffer.add(("two", BEGAN), line("third"))
    logs.wake()
    own_valkey.start()
    keys = [KEYS.job_log(job_id, BEGAN) for job_id in ("one", "two")]
    with own_valkey.client() as redis:
        wait_until(lambda: redis.exists(*keys) == len(keys), description="all is written")
        (_, written), *others = stream(redis, keys[0])
        assert [each[3] for each in json.loads(written["lines"])] == ["first", "second"]
        assert others == []
    logs.close()


async def test_a_log_is_shown_safely(redis_url: str, client: Client, redis: Redis) -> None:
    """On the page and as text: neither HTML nor a terminal's escapes; a forged line is indented."""
    store(redis, "STARTED", retries=1, attempts=1)
    redis.rpush(KEYS.attempts("one"), json.dumps({"state": "RETRY", "started_at": "2026-01-01"}))
    redis.expire(KEYS.attempts("one"), 60)
    rows = (line(EVIL), line("two\nlines\tand", 40), line("printed", 0, "stdout"))
    write(redis_url, "one", *rows)
    redis.xadd(KEYS.job_log("one", BEGAN), {"lines": b"no JSON"}, id="99999-1")
    page = await (await client.get("/result/one", headers=ADMIN)).get_data(as_text=True)
    row = re.compile(r'<li data-kind="(\w+)">.*?<span class="text">(.*?)</span></li>', re.DOTALL)
    shown = row.findall(page)
    safe = r"&lt;script&gt;red \x07\x9b \u202e"
    assert shown == [("info", safe), ("error", "two\nlines    and"), ("print", "printed")]
    assert 'data-attempt="2" data-after="99999-1"' in page
    assert 'href="/dashboard/jobs/one/log?attempt=1"' in page
    answer = await client.get("/dashboard/jobs/one/log", headers=ADMIN)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    moment = "2026-01-02 03:04:05.500000"
    assert (await answer.get_data(as_text=True)).splitlines() == [
        rf"{moment} INFO shop: <script>red \x07\x9b \u202e",
        f"{moment} ERROR shop: two",
        "    lines    and",
        f"{moment} stdout printed",
    ]
    first = await client.get("/dashboard/jobs/one/log?attempt=1", headers=ADMIN)
    assert (first.status_code, await first.get_data()) == (200, b"")
    unknown = await client.get("/dashboard/jobs/one/log?attempt=7", headers=ADMIN)
    assert unknown.status_code == 404
    public = await (await client.get("/result/one", headers={"Accept": "text/html"})).get_data(True)
    assert 'id="log"' not in public
    redis.delete(KEYS.job_log("one", BEGAN))


async def test_new_lines_are_pushed(redis_url: str, client: Client, redis: Redis) -> None:
    """Those that the page lacks, then those of the next attempt; the stream ends after the job."""
    write(redis_url, "one", line("first"))
    ((known, _),) = stream(redis, KEYS.job_log("one", BEGAN))
    write(redis_url, "one", line("second"))
    store(redis, "SUCCESS", date_done="2026-01-02T03:04:06+00:00")

    async def pushed(query: str) -> dict[str, Any]:
        answer = await client.get(f"/dashboard/jobs/one/log?{query}", headers=EVENTS)
        text = await answer.get_data(as_text=True)
        found: dict[str, Any] = json.loads(text.rpartition("data: ")[2])
        return found

    news = await pushed(f"attempt=1&after={known}")
    assert (news["attempt"], news["over"]) == (1, True)
    assert "second" in news["html"]
    assert "first" not in news["html"]
    other = await pushed("attempt=7&after=5-5")
    assert "first" in other["html"]
    once = await client.get("/dashboard/jobs/one/log?attempt=1&after=bad", headers=ADMIN)
    assert "first" in (await once.get_json())["html"]
