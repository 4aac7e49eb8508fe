"""The process's loop refuses to wait for itself."""

import asyncio

import pytest

from service.worker.loop.process_loop import ProcessLoop


def test_the_loop_does_not_wait_for_itself() -> None:
    """Every job of the worker would hang with it."""

    async def answer() -> int:
        return 3

    async def ask() -> None:
        await asyncio.sleep(0)
        loop.run(answer())

    loop = ProcessLoop(1)
    try:
        with pytest.raises(RuntimeError, match="enqueue a job"):
            loop.run(ask())
        assert loop.run(answer()) == 3
    finally:
        loop.stop()
