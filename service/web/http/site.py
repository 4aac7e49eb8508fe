"""What a web side has, under which addresses, and how its pages look."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PrefixLoader,
    TemplateNotFound,
    Undefined,
)
from quart import Quart, current_app, render_template

from service.access.access import access_of
from service.errors import ConfigurationError
from service.parts import runs_jobs
from service.results.store import StoredRecord
from service.web.http import filters

NAME: Final = "service"  # begins the names of our endpoints, blueprints and templates
PROBES: Final = "health"  # the blueprint of what is for everybody, under any Host, without limits
_EXTENSION: Final = "service.web"
_FOLDER: Final = Path(__file__).parents[1] / "templates"


class SiteOptions(TypedDict, total=False):
    """What `Jobs` takes of the web side. False leaves a section out; a text is its own prefix."""

    url_prefix: str  # of all sections: "/jobs"
    api: bool | str  # `/tasks`, and `/result/<id>` as JSON and events
    pages: bool | str  # `/result/<id>` as a page
    front_page: bool | str  # forms for the public tasks; needs `api` and `pages`
    docs: bool | str  # `/docs` and `/openapi.json`; needs `api`
    dashboard: bool | str  # `/dashboard`
    health: bool | str  # `/healthz` and `/readyz`
    title: str  # of the pages, and of the interface: "Jobs"
    brand: str  # the address of an image, which stands before the title
    greeting: str  # heads the front page, in place of the title
    first_job: tuple[str, tuple[Any, ...]]  # what the front page starts at each visit
    base_template: str  # of the app, with the blocks `title`, `head` and `content`


@dataclass(frozen=True, kw_only=True)
class Site:
    """A web side. Addresses of a section begin with its prefix, which is None for one left out.

    Its other options are as SiteOptions has them.
    """

    root: str
    api: str | None
    pages: str | None
    front_page: str | None
    docs: str | None
    dashboard: str | None
    health: str | None
    title: str = "Jobs"
    brand: str = ""
    greeting: str = ""
    first_job: tuple[str, tuple[Any, ...]] | None = None
    base_template: str = ""
    mount: str | None = None  # where a host of another kind is expected to mount it
    # What an operator sees of a job besides, by its record: the dashboard puts it here.
    job_details: list[Callable[[StoredRecord], Awaitable[object]]] = field(
        init=False, default_factory=list
    )
    template_folders: list[Path] = field(init=False, default_factory=lambda: [_FOLDER])

    @classmethod
    def of(cls, **options: Unpack[SiteOptions]) -> "Site":
        """The site with these options. Raises ConfigurationError, and TypeError for another one."""
        given: dict[str, Any] = {**options}
        for name in given.keys() - SiteOptions.__annotations__.keys():
            raise TypeError(f"Jobs() got an unexpected keyword argument {name!r}")
        root = given["root"] = _prefix(given.pop("url_prefix", "/jobs"), "") or ""
        defaults = dict.fromkeys(("api", "pages", "front_page", "docs", "health"), root)
        for name, default in {**defaults, "dashboard": f"{root}/dashboard"}.items():
            given[name] = _prefix(given.get(name, True), default)
        if given["api"] is None or given["pages"] is None:
            given["front_page"] = None
        if given["api"] is None:
            given["docs"] = None
        return cls(**given)

    def mounted(self) -> "Site":
        """The same for a host of another kind, in whose addresses `root` is what it mounts at."""
        sections = ("api", "pages", "front_page", "docs", "dashboard", "health")
        inner: dict[str, Any] = {}
        for name in sections:
            prefix = getattr(self, name)
            inner[name] = None if prefix is None else prefix.removeprefix(self.root)
        return replace(self, root="", mount=self.root, **inner)

    @property
    def results(self) -> str | None:
        """The prefix of `/result/<id>`, which the API and the pages share."""
        return self.pages if self.api is None else self.api

    @property
    def for_any_host(self) -> frozenset[str]:
        """The addresses that are served under any Host: Kubernetes and Prometheus ask by a pod's.

        A page that got here under a name of its own learns nothing: it has no token for `/metrics`.
        """
        probes = [] if self.health is None else [f"{self.health}/healthz", f"{self.health}/readyz"]
        return frozenset([*probes, f"{self.root}/metrics"])

    @property
    def has_pages(self) -> bool:
        """Whether there is any HTML."""
        return any(each is not None for each in (self.pages, self.docs, self.dashboard))

    @property
    def has_dashboard(self) -> bool:
        """Whether the current app has a dashboard, which somebody has to have a role for."""
        return self.dashboard is not None and access_of(current_app).has_operators

    @cached_property
    def templates(self) -> Environment:
        """The app's own environment with our templates and filters, which the app's has not.

        The templates of the app win: one that it has as `service/_card.html` replaces ours.
        """
        host = current_app.jinja_env
        ours = PrefixLoader({NAME: FileSystemLoader([str(each) for each in self.template_folders])})
        loader = ChoiceLoader([each for each in (host.loader, ours) if each is not None])
        own = host.overlay(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=Undefined)
        own.filters = {**host.filters, **filters.FILTERS}
        layout = "in_host" if self.base_template else "base"
        own.globals = {
            **host.globals,
            "unknown": filters.UNKNOWN,
            "site": self,
            "layout": f"{NAME}/{layout}.html",
        }
        return own


def _prefix(section: bool | str, default: str) -> str | None:
    """The prefix of a section that was asked for: by default, by name, or not at all.

    Raises ConfigurationError.
    """
    prefix = default if isinstance(section, bool) else section.rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise ConfigurationError(f"A prefix of addresses begins with `/`; {prefix!r} does not.")
    return None if section is False else prefix


def add_site(app: Quart, site: Site) -> None:
    """Give the app a copy of the site, with templates of its own."""
    app.extensions[_EXTENSION] = replace(site)
    if site.base_template:
        app.before_serving(partial(_find_base_template, app, site.base_template))


def _find_base_template(app: Quart, name: str) -> None:
    """Raise ConfigurationError where there is no such template, unless no page is shown here."""
    try:
        if not runs_jobs(app):
            app.jinja_env.get_template(name)
    except TemplateNotFound as error:
        raise ConfigurationError(
            f"`base_template=` names {name!r}, which is not among the app's templates."
        ) from error


def site_of(app: Quart) -> Site:
    """The app's site."""
    site: Site = app.extensions[_EXTENSION]
    return site


async def render(name: str, **context: Any) -> str:
    """Render a template of ours, with what the app gives to all templates."""
    template: Any = site_of(current_app).templates.get_template(f"{NAME}/{name}")
    # As in `stream_template`, a template may be given for its name: Jinja takes either.
    return filters.printable(await render_template(template, **context))
