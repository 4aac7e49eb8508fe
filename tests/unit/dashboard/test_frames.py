"""The user's own frames of a traceback, wherever their code lies."""

import pytest

from service.dashboard.pages.job.frames import read_trace

_CELERY = '  File "/venv/lib/python3.12/site-packages/celery/app/trace.py", line 4, in t\n    fun()'
_STANDARD = '  File "/usr/lib/python3.12/asyncio/tasks.py", line 5, in step\n    go()\n    ^^^^'
_SHOP = '  File "/venv/lib/python3.12/site-packages/shop/mail.py", line 6, in send\n    post()'
_HTTPX = '  File "/venv/lib/python3.12/site-packages/httpx/_main.py", line 7, in post\n    fail()'
_APP = '  File "/srv/app/tasks.py", line 8, in send\n    post()'
_HEAD = "Traceback (most recent call last):"
_END = 'ValueError: File "/srv/x.py" is no address'


@pytest.mark.parametrize(
    ("frames", "own", "others"),
    [
        ([_CELERY, _STANDARD, _APP, _HTTPX], [_APP], 3),
        ([_CELERY, _SHOP, _HTTPX], [_SHOP], 2),  # their code is installed
        (
            [_CELERY, _HTTPX],
            [_HTTPX],
            1,
        ),  # a library's own task: of the same package as its function
        ([_CELERY], [_CELERY], 0),
        ([], [], 0),
    ],
)
def test_the_users_own_frames(frames: list[str], own: list[str], others: int) -> None:
    """The rest is folded; what was raised stands with both."""
    text = "\n".join([_HEAD, *frames, _END, ""])
    trace = read_trace(text)
    assert trace.own == "\n".join([_HEAD, *own, _END])
    assert (trace.whole, trace.others) == (text.rstrip(), others)


def test_an_error_behind_an_error_is_told_too() -> None:
    """With its own frames, in the order in which they were raised."""
    first = [_HEAD, _APP, _END, "\nDuring handling of the above exception, another one occurred:\n"]
    trace = read_trace("\n".join([*first, _HEAD, _CELERY, _APP, "OSError"]))
    assert trace.own == "\n".join([*first, _HEAD, _APP, "OSError"])
    assert trace.others == 1
