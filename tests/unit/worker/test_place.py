"""Where in the user's own code an error was raised, by the text of its traceback."""

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from service.worker.backend.place import place_of

SITE = sysconfig.get_path("purelib")
STANDARD = str(Path(os.__file__).parent)
HERE = next(folder for folder in sys.path if folder and not folder.startswith(STANDARD))
TRACER = (f"{SITE}/celery/app/trace.py", "trace_task")


def traceback(*frames: tuple[str, str]) -> str:
    lines = [
        f'  File "{path}", line {number}, in {function}\n    code()'
        for number, (path, function) in enumerate(frames, 1)
    ]
    return "\n".join(["Traceback (most recent call last):", *lines, "ValueError: no"])


@pytest.mark.parametrize(
    ("frames", "place"),
    [
        ([TRACER, (f"{HERE}/shop/mail.py", "send")], "shop/mail.py:send:2"),
        (
            [
                TRACER,
                (f"{HERE}/shop/mail.py", "send"),
                (f"{HERE}/shop/names.py", "find"),
                (f"{SITE}/httpx/client.py", "get"),
                (f"{STANDARD}/socket.py", "connect"),
            ],
            "shop/names.py:find:3",
        ),
        # The app is installed itself, and its own package is the user's.
        (
            [
                TRACER,
                (f"{SITE}/shop/mail.py", "send"),
                (f"{SITE}/shop/names.py", "find"),
                (f"{SITE}/httpx/client.py", "get"),
            ],
            "shop/names.py:find:3",
        ),
        ([("/srv/releases/7/shop/mail.py", "send")], "7/shop/mail.py:send:1"),
        ([TRACER, (f"{STANDARD}/json/decoder.py", "decode")], f"{STANDARD}/json/decoder.py"),
        ([TRACER], ""),
    ],
)
def test_it_is_the_innermost_frame_of_the_users_own(
    frames: list[tuple[str, str]], place: str
) -> None:
    """Without one, the innermost frame of all; of what calls a task nothing is said."""
    found = place_of(traceback(*frames))
    assert found == place or (STANDARD in place and found.endswith("json/decoder.py:decode:2"))


def test_it_is_of_the_error_that_ended_the_job() -> None:
    """Not of the one that this one was raised from; and of the first that a group has."""
    cause = traceback((f"{HERE}/shop/first.py", "one"))
    last = traceback((f"{HERE}/shop/second.py", "two"))
    words = "\n\nThe above exception was the direct cause of the following exception:\n\n"
    assert place_of(cause + words + last) == "shop/second.py:two:1"
    group = "  + Exception Group " + last.replace("\n", "\n  | ")
    assert place_of(group) == "shop/second.py:two:1"
    assert place_of("nothing of the kind") == ""
