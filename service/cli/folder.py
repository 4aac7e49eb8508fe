"""Finds the app of the folder that a command is run in, or the one of this package.

python -m service.cli.folder    says whether the folder's code can be loaded; for `service dev`
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb, format_exception_only, format_list
from typing import Any, Final

from quart import Quart

from service.app import create_app
from service.cli.exit import exit_on_error
from service.errors import ConfigurationError, ServiceError
from service.parts import get_celery

_WEB: Final = "asgi"
_WORKER: Final = "worker_entry"


def has_entry_points() -> bool:
    """Whether the folder has both entry points. Raises ConfigurationError where it has one."""
    files = [f"{name}.py" for name in (_WEB, _WORKER)]
    there = [name for name in files if Path(name).exists()]
    if len(there) == 1:
        (missing,) = set(files) - set(there)
        raise ConfigurationError(
            f"This folder has {there[0]} but no {missing}. Add it: service/docs/embedding.md shows"
            " both."
        )
    return bool(there)


def load_app() -> Quart:
    """The app of the folder's worker, or one by `create_app`. Raises ConfigurationError."""
    sys.path.insert(0, str(Path.cwd()))  # as the worker and the web side have it, and a script not
    with _mistakes_told():
        if not has_entry_points():
            return create_app()
        celery: Any = getattr(importlib.import_module(_WORKER), "app", None)
    app = getattr(celery, "quart_app", None)
    if not isinstance(app, Quart):
        raise ConfigurationError(
            "worker_entry.py has no Celery app of this service. Write `app = get_celery(…)` in it."
        )
    return app


def check_code(app: Quart) -> None:
    """Raise ConfigurationError where a worker or a web process would refuse the folder's code.

    `app` is the one that `load_app` gave.
    """
    with _mistakes_told():
        get_celery(app)
        if not has_entry_points():
            return
        web = getattr(importlib.import_module(_WEB), "app", None)
    if not callable(web):
        raise ConfigurationError("asgi.py has no `app`, which Hypercorn serves.")


@contextmanager
def _mistakes_told() -> Iterator[None]:
    """Make one ConfigurationError of what the user's code raises; it says where the mistake is."""
    try:
        yield
    except ServiceError:
        raise  # it says what to do
    except SyntaxError as error:
        place = f"{_shown(error.filename or '')}, line {error.lineno}"
        raise ConfigurationError(f"{place}, is not Python: {error.msg}.") from error
    except Exception as error:
        trace = [each for each in extract_tb(error.__traceback__) if not _imports(each.filename)]
        own = [each for each in trace if _is_of_folder(each.filename)] or trace
        # The user's last line, which may have called a package that is installed.
        place = f"{_shown(own[-1].filename)}, line {own[-1].lineno}"
        if isinstance(error, ImportError):
            raise ConfigurationError(f"{place}, imports what is not there: {error}.") from error
        said = "".join(format_exception_only(error)).strip()
        frames = "".join(format_list(trace[trace.index(own[0]) :])).rstrip()
        raise ConfigurationError(f"{place}, cannot be run: {said}\n{frames}") from error


def _imports(path: str) -> bool:
    """Whether a file only imports others: of Python's, or this one."""
    return path.startswith("<frozen importlib") or path in (__file__, importlib.__file__)


def _is_of_folder(path: str) -> bool:
    """Whether a file is the user's: in this folder, and not in an environment inside it."""
    return not Path(_shown(path)).is_absolute() and "site-packages" not in path


def _shown(path: str) -> str:
    """The path of a file as it is seen from this folder."""
    given = Path(path)
    return str(given.relative_to(Path.cwd())) if given.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    with exit_on_error():
        check_code(load_app())
