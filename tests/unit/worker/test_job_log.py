"""What jobs log waits in memory within bounds, and knows its attempt."""

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from service.jobs.job import CurrentJob, running
from service.results.job_log import MAX_BYTES, MAX_TEXT, LogLine, encode_lines, make_line
from service.settings import read_settings
from service.worker.job_log.buffer import OPEN, Buffer
from service.worker.job_log.capture import JobLogHandler, JobStream
from service.worker.job_log.writer import JobLogs

ONE = ("one", "2026-01-02T03:04:05+00:00")


class Quiet(JobLogs):
    """Writes nothing: a test takes the lines."""

    def wake(self) -> None:
        pass


@pytest.fixture
def logs() -> Iterator[JobLogs]:
    yield Quiet(read_settings({}))
    OPEN.clear()


@pytest.fixture
def buffer() -> Iterator[Buffer]:
    yield Buffer()
    OPEN.clear()


def taken(buffer: Buffer) -> list[tuple[int, str, str]]:
    lines = [line for each in buffer.take() for line in each.lines]
    return [(line.level, line.source, line.text) for line in lines]


def in_job(job_id: str = "one") -> CurrentJob:
    return CurrentJob(job_id, "shop.buy", 0, lambda _: None, started_at=ONE[1])


async def test_a_line_goes_to_the_job_that_wrote_it(logs: JobLogs) -> None:
    """Of jobs that take turns on one loop, and of their child tasks and threads."""
    logger, plain = logging.Logger("shop"), io.StringIO()
    logger.addHandler(JobLogHandler(logs))
    out = JobStream(plain, "stdout", logs)

    async def body(name: str) -> None:
        running.set(in_job(name))
        for _ in range(3):
            logger.info("of %s", name)
            await asyncio.gather(
                asyncio.sleep(0), asyncio.to_thread(print, "print of", name, file=out)
            )

    logger.info("of no job")
    print("of no job", file=out)
    await asyncio.gather(*(asyncio.create_task(body(name)) for name in ("one", "two")))
    by_job = {each.log.id[0]: {line.text for line in each.lines} for each in logs.buffer.take()}
    assert by_job == {name: {f"of {name}", f"print of {name}"} for name in ("one", "two")}
    assert plain.getvalue().count("\n") == 7


async def test_no_record_fails_a_body(logs: JobLogs) -> None:
    """Not one that cannot be formatted, nor one of half characters."""
    running.set(in_job())
    logger = logging.Logger("shop")
    logger.addHandler(JobLogHandler(logs))
    logger.info("%d letters", "no number")
    logger.info("\ud800")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("no luck")
    lines = [line for each in logs.buffer.take() for line in each.lines]
    assert lines[0].text == "A record that could not be written: TypeError"
    assert "ZeroDivisionError: division by zero" in lines[2].text
    assert b"\\ud800" in encode_lines(lines)


def test_prints_are_lines(buffer: Buffer) -> None:
    """However many writes make one; of a progress bar what is seen at last; the rest at the end."""
    for text in ("a ", "b\nc", "\n", "10 %\r", "20 %\r", "done\n", "no end"):
        buffer.print(ONE, "stdout", text)
    assert taken(buffer) == [(0, "stdout", text) for text in ("a b", "c", "done")]
    buffer.end(ONE)
    assert taken(buffer) == [(0, "stdout", "no end")]
    assert not OPEN
    buffer.end(ONE)
    assert taken(buffer) == []


def test_memory_is_bounded(buffer: Buffer) -> None:
    """A long line is cut, a long log loses its beginning, and all together have a bound."""
    buffer.print(ONE, "stdout", "x" * 10_000_000)
    buffer.end(ONE)
    assert len(taken(buffer)[0][2]) <= MAX_TEXT
    for number in range(10_000):
        buffer.add(ONE, make_line(0, 20, "shop", f"{number:04d}" + "y" * 96))
    lines = taken(buffer)
    assert "lines were not kept" in lines[0][2]
    assert lines[-1][2].startswith("9999")
    assert sum(len(text) for _, _, text in lines) <= MAX_BYTES
    for number in range(100):
        for _ in range(32):
            buffer.add((str(number), ""), make_line(0, 20, "shop", "z" * MAX_TEXT))
    waiting = [each for _ in range(100) for each in buffer.take()]
    assert sum(len(line.text) for each in waiting for line in each.lines) <= 17_000_000
    assert "lines were not kept" in waiting[-1].lines[0].text


def test_many_logs_are_written_in_steps(buffer: Buffer) -> None:
    """After an outage 10,000 may wait, and one script for all would keep Redis from others."""
    for number in range(600):
        buffer.add((str(number), ONE[1]), make_line(0.0, logging.INFO, "shop", "sold"))
    assert [len(buffer.take()) for _ in range(4)] == [250, 250, 100, 0]


def test_what_could_not_be_written_goes_first(buffer: Buffer) -> None:
    """In its order, and the attempt's end is told with it."""
    line = LogLine(0, 20, "shop", "first")
    buffer.add(ONE, line)
    buffer.end(ONE)
    waiting = buffer.take()
    buffer.add(ONE, LogLine(0, 20, "shop", "late"))
    buffer.put_back(waiting)
    (again,) = buffer.take()
    assert [each.text for each in again.lines] == ["first", "late"]
    assert again.is_over
