"""Turns a Celery app of the user's into the Celery app of a Quart app.

Its tasks, routes, schedule and other configuration stay. It stays the same object, so that whatever
refers to it, its tasks above all, sends and runs jobs as ours do. It has one Quart app at a time.
"""

import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from celery import Celery, Task
from celery.app.defaults import SETTING_KEYS
from celery.utils.collections import ConfigurationView
from quart import Quart

from service.errors import ConfigurationError
from service.jobs.blueprint import TaskRegistry
from service.jobs.celery.app import TASK_BASE, QuartCelery
from service.jobs.celery.current import SERVING, leave_current
from service.redis.clients import is_redis
from service.signals import Signals

# What Celery derives from its configuration at first use, and keeps.
_MADE: Final = ("amqp", "control", "annotations", "_uses_utc")
_SAME: Final = {"application/json": "json"}  # two names of one serializer


class AdoptedCelery(QuartCelery):
    """A Celery app of the user's; `own_settings` are those that it had of its own."""

    own_settings: Mapping[str, Any]
    _settings: Mapping[str, Any] = {}
    max_deliveries = 1
    quart_app: Any = None  # none yet
    handles: Any = {}  # noqa: RUF012  as above

    def take(
        self,
        app: Quart,
        handles: TaskRegistry,
        signals: Signals,
        settings: Mapping[str, Any],
        *,
        max_deliveries: int,
    ) -> None:
        """Be the Celery app of this Quart app, with these settings.

        Raises ConfigurationError while another app serves whose Celery app it is.
        """
        owner = self.quart_app
        if owner is not None and any(each.app is owner for each in SERVING):
            raise ConfigurationError(
                f"The Celery app {self.main!r} is that of the app {owner.name!r}, which serves in"
                f" this process, so that {app.name!r} cannot have it, too. Give each app a Celery"
                " app of its own, or declare the tasks of both by `shared_task`."
            )
        tasks: Any = self._tasks  # type: ignore[attr-defined]  # not in celery-types
        conf: Any = self.conf
        for name in self.handles:  # of the app that it had before, as its settings
            tasks.pop(name, None)
        for name in self._settings:
            conf.changes.pop(name, None)
        self._settings = settings
        conf.update(settings)
        self._forget_what_was_made()
        self.belong_to(app, handles, signals, max_deliveries)
        leave_current(self)

    def take_tasks(self) -> None:
        """Put the tasks that it made as plain Celery into the app context, as those made later."""
        for task in [*self.tasks.values()]:
            if not isinstance(task, self._task_base):
                bound = _made_by_binding(type(task))
                if "_orig_run" in vars(task):  # of `autoretry_for`: made anew around the new body
                    for name in ("run", "_orig_run"):
                        delattr(task, name)
                task.__class__ = self._context_task(type(task))
                type(task).__bound__ = True
                for name in bound:  # read from the configuration before: to be read anew
                    setattr(type(task), name, None)
                vars(task).pop("_exec_options", None)  # kept since it was sent first
                type(task).annotate()
                self.register_task(task)

    def _forget_what_was_made(self) -> None:
        for name in _MADE:
            self.__dict__.pop(name, None)
        made = self.__dict__.get("Task")
        if made is not None and made.__bases__[0] in {Task, self._task_base}:
            del self.__dict__["Task"]  # but not one that the user has set
        for name, ours in (("amqp_cls", QuartCelery.amqp_cls), ("control_cls", _CONTROL)):
            if getattr(self, name) == getattr(Celery, name):
                setattr(self, name, ours)
        if self.task_cls == Celery.task_cls:
            self.task_cls = TASK_BASE
        self._backend_cache = self._pool = None
        self._local = threading.local()


_CONTROL: Final = QuartCelery.control_cls


def offered_settings(existing: Celery, *, has_redis_url: bool) -> dict[str, Any]:
    """Its own settings, as settings of the service; those given in any other way win.

    Redis is where its result backend is, or else its broker. With `has_redis_url` the service has a
    Redis address already, which is used instead. A broker of another kind stays. Raises
    ConfigurationError for what cannot be adopted.
    """
    if isinstance(existing, AdoptedCelery):
        own = dict(existing.own_settings)
    elif isinstance(existing, QuartCelery) or not isinstance(existing, Celery):
        raise ConfigurationError(
            f"`celery=` of `Jobs` takes a `Celery()` of your own, and not {existing!r}."
        )
    else:
        own = _own_settings(existing)
    addresses = [own.pop("result_backend", None), own.get("broker_url")]
    found: dict[str, Any] = {}
    redis_urls = [url for url in addresses if is_redis(url)]
    if has_redis_url and is_redis(own.get("broker_url")):
        del own["broker_url"]
    elif redis_urls:
        found["SERVICE_REDIS_URL"] = redis_urls[0]
    if own.get("broker_url") and not is_redis(own["broker_url"]):
        own.setdefault("task_default_queue_type", "classic")  # as it has declared its queues
    expires = own.pop("result_expires", None)
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    if expires:
        found["SERVICE_RESULT_EXPIRES"] = expires
    for name in ("accept_content", "result_accept_content"):
        if own.get(name):
            own[name] = sorted({_SAME.get(each, each) for each in own[name]})
    return {**found, "SERVICE_CELERY": own}


def adopt(existing: Celery) -> AdoptedCelery:
    """Make it one that a Quart app can take. It works as no Celery app does until one has."""
    if isinstance(existing, AdoptedCelery):
        return existing
    own_settings, own_class = _own_settings(existing), type(existing)
    adopted: Any = existing
    adopted.__class__ = (
        AdoptedCelery
        if own_class is Celery
        else type(own_class.__name__, (AdoptedCelery, own_class), {})
    )
    adopted.own_settings = own_settings
    return adopted  # type: ignore[no-any-return]


def _own_settings(existing: Any) -> dict[str, Any]:
    """The settings that somebody gave it, without Celery's defaults."""
    conf = existing.conf
    conf.first("timezone")  # loads it
    given = ConfigurationView(conf.changes, conf.defaults[:-1], conf._keys, conf.prefix)  # noqa: SLF001
    return {name: given[name] for name in sorted(SETTING_KEYS) if name in given}


def _made_by_binding(task_class: Any) -> list[str]:
    """The options that the class has from the configuration that it was bound with.

    A class keeps the order in which it was given its names: those come after `__bound__`.
    """
    found = []
    for name, _ in task_class.from_config:
        names = [*vars(next((c for c in task_class.__mro__ if name in vars(c)), object))]
        if "__bound__" in names and names.index(name) > names.index("__bound__"):
            found.append(name)
    return found
