"""Waiting is bounded in the one way that works on every Python that is promised."""

from tests.support.source import modules

_ONLY = "service/redis/deadline.py"


def test_nothing_is_used_that_loses_a_cancellation_on_some_python() -> None:
    """TaskGroup leaves one counted (3.11, 3.12), after which `asyncio.timeout` leaks it (3.11.2).

    `asyncio.wait_for` may swallow one (3.11). Use Deadline, and `asyncio.wait`.
    """
    leaky = ("asyncio.timeout", "asyncio.TaskGroup", "asyncio.wait_for")
    found = [
        f"{module.path}: {name}"
        for module in modules("service")
        for name in leaky
        if f"{name}(" in module.text or f"{name}_at(" in module.text
    ]
    assert found == [f"{_ONLY}: asyncio.timeout"]
