"""`Jobs`, an extension in Quart's form: gives an app tasks, their HTTP interface and pages."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Unpack

from celery import Celery
from quart import Quart

from service.access.access import Identify, add_access
from service.access.policy import Allow
from service.broker.checks.startup import init_checks
from service.dashboard import init_dashboard
from service.errors import ConfigurationError
from service.health import init_health
from service.jobs.blueprint import TaskBlueprint
from service.jobs.celery.existing import offered_settings
from service.jobs.finding import find_tasks
from service.jobs.handle import EXTENSION
from service.logs.handlers import init_handlers
from service.metrics import init_metrics
from service.parts import init_parts, runs_jobs
from service.settings import read_settings
from service.settings.values import celery_environment
from service.web import init_web
from service.web.asgi.mount import Mount
from service.web.http.site import Site, SiteOptions


class Jobs:
    """What an app is to have of jobs; `init_app` gives it to an app, or to several."""

    def __init__(  # noqa: PLR0913  each by name
        self,
        app: Quart | None = None,
        *,
        tasks: Iterable[str | TaskBlueprint] = (),
        celery: Celery | None = None,
        config: Mapping[str, Any] | None = None,
        worker_lifespan: Callable[[Quart], AbstractAsyncContextManager[object]] | None = None,
        identify: Identify | None = None,
        allow: Allow | None = None,
        whole_app: bool = False,
        **options: Unpack[SiteOptions],
    ) -> None:
        """Open nothing, and know no app yet, unless `app` is given.

        `tasks` are task blueprints, and names of modules or packages that have some, or that have
        shared tasks of Celery's. `celery` is a Celery app of your own, which becomes that of the
        app. `config` has defaults of settings, over which the environment and then `app.config`
        win. In each process that runs jobs, and in no other, `worker_lifespan` is entered once, on
        the loop of the jobs.
        `identify` gives the Caller of a request, or None; `allow` decides what a caller may do, in
        place of `allow_by_default`. `options` say which sections the web side has, where, and how
        they look. With `whole_app` the app is nothing but these: its own errors, headers and
        refusals are those of jobs.
        """
        self._tasks = _listed(tasks)
        self._celery = celery
        self._config = dict(config or {})
        self._worker_lifespan = worker_lifespan
        self._identify, self._allow = identify, allow
        self._whole_app = whole_app
        self._site = Site.of(**options)
        self._own: Quart | None = None
        self._lives = 0  # how often `lifespan` is entered at the moment
        self._has_started = False
        if app is not None:
            self.init_app(app)

    @property
    def app(self) -> Quart:
        """The Quart app of a host of another kind, with jobs alone; made when it is needed."""
        if self._own is None:
            own = Quart("service", static_folder=None)
            self._init(own, self._tasks, self._site.mounted(), whole_app=True)
            self._own = own
        return self._own

    def asgi(self) -> Mount:
        """An ASGI app for a host to mount: `app.mount("/jobs", jobs.asgi())`."""
        return Mount(lambda: self._own if self._has_started else None, self.lifespan)

    @asynccontextmanager
    async def lifespan(self, _host: object = None) -> AsyncIterator[None]:
        """Start what `asgi` serves and what enqueues, and stop it: the lifespan of a host's app.

        Raises what keeps it from starting, ConfigurationError for one. It may be entered again,
        also meanwhile.
        """
        app = self.app
        self._lives += 1
        try:
            if self._lives == 1:
                await app.startup()
                self._has_started = True
            yield
        finally:
            self._lives -= 1
            if self._lives == 0:
                self._own = None  # its connections belong to this event loop
                if self._has_started:
                    self._has_started = False
                    await app.shutdown()

    def init_app(self, app: Quart, *, tasks: Iterable[str | TaskBlueprint] = ()) -> None:
        """Give the app its jobs, those of `tasks` besides; it opens nothing until it serves.

        Raises ConfigurationError.
        """
        self._init(app, (*self._tasks, *_listed(tasks)), self._site, whole_app=self._whole_app)

    def _init(
        self, app: Quart, tasks: Iterable[str | TaskBlueprint], site: Site, *, whole_app: bool
    ) -> None:
        if EXTENSION in app.extensions:
            raise ConfigurationError(
                f"The app {app.name!r} has jobs already. Call `init_app` once for each app."
            )
        environment = celery_environment(os.environ)
        sources: tuple[Mapping[str, Any], ...] = (self._config, os.environ, app.config, environment)
        if self._celery is not None:
            has_redis_url = any("SERVICE_REDIS_URL" in source for source in sources)
            sources = (offered_settings(self._celery, has_redis_url=has_redis_url), *sources)
        settings = read_settings(*sources)
        registry = find_tasks(tasks, modules=settings.task_modules)
        app.before_serving(partial(self._begin_log, app, as_json=settings.log == "json"))
        init_checks(app, settings)
        init_parts(app, settings, registry, self._celery)
        add_access(app, self._identify, self._allow)
        ours = init_web(app, site, whole_app=whole_app)
        init_dashboard(app, ours)
        init_metrics(app, ours)
        init_health(app, ours)
        app.register_blueprint(ours)
        if self._worker_lifespan is not None:
            app.while_serving(partial(_in_worker, app, self._worker_lifespan))

    async def _begin_log(self, app: Quart, *, as_json: bool) -> None:
        if not runs_jobs(app):  # a worker's log is Celery's
            init_handlers(as_json=as_json, in_host=not self._whole_app)


def _listed(tasks: Iterable[str | TaskBlueprint]) -> tuple[str | TaskBlueprint, ...]:
    """The tasks as they are named; a text alone names one module, and is no list of letters."""
    return (tasks,) if isinstance(tasks, str) else tuple(tasks)


async def _in_worker(
    app: Quart, lifespan: Callable[[Quart], AbstractAsyncContextManager[object]]
) -> AsyncGenerator[None]:
    """Hold what the jobs need, in a process that runs some."""
    if not runs_jobs(app):
        yield
        return
    async with lifespan(app):
        yield
