"""Builds the Celery app of a Quart app, once, when it is first used."""

import threading
from typing import Any

from celery import Celery
from quart import Quart

from service.jobs.blueprint import TaskRegistry
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.existing import AdoptedCelery, adopt
from service.jobs.celery.settings import celery_settings
from service.settings import Settings
from service.signals import Signals


class CeleryBuilder:
    """Builds an app's Celery app at the first call of `get`, and keeps it."""

    def __init__(
        self,
        app: Quart,
        settings: Settings,
        tasks: TaskRegistry,
        signals: Signals,
        existing: Celery | None = None,
    ) -> None:
        """`existing` is a Celery app of the user's, which is this app's from now on.

        Raises ConfigurationError for settings of Celery that cannot be used; `existing` stays as it
        is then.
        """
        self.app = app
        self.settings = settings
        self.tasks = tasks
        self.signals = signals
        self._existing: AdoptedCelery | None = None
        self._building = threading.RLock()  # a module that is imported here may ask for the app
        self.built: QuartCelery | None = None
        if existing is not None:
            self._existing = self._take_over(existing)

    @property
    def is_ready(self) -> bool:
        """Whether the Celery app is built and has its tasks, so that `get` takes no time."""
        built: Any = self.built
        return built is not None and bool(built.finalized)

    def get(self) -> QuartCelery:
        """The app's Celery app.

        Raises ConfigurationError for settings of Celery and options of tasks that cannot be used.
        """
        with self._building:
            # A Celery app of the user's may have been given to another app since.
            if self.built is None or self.built.quart_app is not self.app:
                self.built = self._begin()
                try:
                    self._fill(self.built)
                except BaseException:
                    self.built = None
                    raise
            return self.built

    def _begin(self) -> QuartCelery:
        if self._existing is None:
            settings = celery_settings(self.settings)
            return QuartCelery(
                self.app,
                self.tasks,
                self.signals,
                settings,
                max_deliveries=self.settings.max_deliveries,
            )
        if self._existing.quart_app is not self.app:
            self._take_over(self._existing)
        return self._existing

    def _take_over(self, existing: Celery) -> AdoptedCelery:
        settings = celery_settings(self.settings)  # before anything of it is changed
        adopted = adopt(existing)
        adopted.take(
            self.app,
            self.tasks,
            self.signals,
            settings,
            max_deliveries=self.settings.max_deliveries,
        )
        return adopted

    def _fill(self, celery: QuartCelery) -> None:
        """Give it its tasks: also those of `include` and `imports`, which workers import, too."""
        celery.loader.import_default_modules()
        for name in self.tasks:
            celery.declare(name)
        if self._existing is not None:
            self._existing.take_tasks()
        self.tasks.is_closed = True
