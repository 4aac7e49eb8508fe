"""Finds the app of the folder that a command is run in, or the one of this package."""

import importlib
import sys
from pathlib import Path
from typing import Any

from quart import Quart

from service.app import create_app
from service.errors import ConfigurationError

_OWN = ("asgi.py", "worker_entry.py")


def has_entry_points() -> bool:
    """Whether the folder has both entry points. Raises ConfigurationError where it has one."""
    there = [name for name in _OWN if Path(name).exists()]
    if len(there) == 1:
        (missing,) = set(_OWN) - set(there)
        raise ConfigurationError(
            f"This folder has {there[0]} but no {missing}. Add it: service/docs/embedding.md shows"
            " both."
        )
    return bool(there)


def load_app() -> Quart:
    """The app of the folder's worker, or one by `create_app`. Raises ConfigurationError."""
    sys.path.insert(0, str(Path.cwd()))  # as the worker and the web side have it, and a script not
    if not has_entry_points():
        return create_app()
    try:
        entry = importlib.import_module("worker_entry")
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"worker_entry.py cannot be imported: {error}.") from error
    except SyntaxError as error:
        place = f"{error.filename}, line {error.lineno}"
        raise ConfigurationError(f"{place}, is not Python: {error.msg}.") from error
    celery: Any = getattr(entry, "app", None)
    app = getattr(celery, "quart_app", None)
    if not isinstance(app, Quart):
        raise ConfigurationError(
            "worker_entry.py has no Celery app of this service. Write `app = get_celery(…)` in it."
        )
    return app
