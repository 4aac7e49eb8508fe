"""Watches a folder for changes of code, for `service dev --reload`."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from service.errors import DevServerError

_SETTLED: Final = 0.2  # seconds
# Nothing that a program is likely to write while it runs: that would restart it for ever.
_SUFFIXES: Final = (".py", ".html", ".jinja", ".jinja2", ".j2", ".toml")


def watch(folder: Path, *, until: float | None = None) -> AsyncIterator[list[str]]:
    """Give the names of files that changed together, relative to the folder, again and again.

    With `until` also an empty list after so many seconds without a change. Folders that hold no
    code of the user's, such as `.venv` and `.git`, do not count. Raises DevServerError where
    nothing here can watch.
    """
    try:
        watchfiles: Any = importlib.import_module("watchfiles")  # of the extra `dev`
    except ImportError as error:
        raise DevServerError(
            "--reload needs the package `watchfiles`: run"
            " `pip install 'quart-celery-service[dev]'`."
        ) from error
    is_of_user = watchfiles.DefaultFilter()

    def is_code(change: object, path: str) -> bool:
        return path.endswith(_SUFFIXES) and bool(is_of_user(change, path))

    patience = (
        {} if until is None else {"rust_timeout": int(until * 1000), "yield_on_timeout": True}
    )
    found = watchfiles.awatch(
        folder, watch_filter=is_code, ignore_permission_denied=True, **patience
    )
    return _changes(found, folder)


def wait_for_change(folder: Path, *, watching: Callable[[], object]) -> None:
    """Block until a file of code has changed; `watching` is called once no change can be missed.

    Raises DevServerError as `watch` does.
    """

    async def first() -> None:
        is_watching = False
        async for names in watch(folder, until=_SETTLED):
            if names:
                return
            if not is_watching:
                is_watching = True
                watching()

    asyncio.run(first())


async def _changes(found: AsyncIterator[set[Any]], folder: Path) -> AsyncIterator[list[str]]:
    try:
        async for changes in found:
            yield sorted({str(Path(path).relative_to(folder)) for _, path in changes})
    except OSError as error:  # the system allows no more watches, for one
        raise DevServerError(f"--reload cannot watch {folder}: {error}.") from error
