"""A host: an app of a user's own with everything that jobs must leave as it is."""

from pathlib import Path
from typing import Any, Final

from quart import (
    Blueprint,
    Quart,
    abort,
    render_template,
    render_template_string,
    request,
    websocket,
)
from werkzeug.exceptions import HTTPException

from service import Jobs, TaskBlueprint

UPLOAD: Final = 1_000_000  # bytes: more than SERVICE_MAX_BODY
# Names that jobs could have taken: of blueprints, templates, filters, globals, static files.
_NAMES: Final = (
    "service_jobs",
    "jobs",
    "pages",
    "tasks",
    "results",
    "openapi",
    "dashboard",
    "admin",
)
_TEMPLATE: Final = """
{% if true %}
<p>{{ none }}{{ "x" | duration }}{{ site }}</p>
{% endif %}
"""

shop = TaskBlueprint("shop")


@shop.task(public=True, show_arguments=True)
async def sell(item: str, count: int = 1) -> str:
    """Sell some."""
    return f"{count} {item}"


def make_host(jobs: Jobs | None = None, **config: Any) -> Quart:
    """The host, with jobs or as it would be without them."""
    app = Quart(
        "host",
        root_path=str(Path(__file__).parent),
        static_folder="host_static",
        static_url_path="/static",
        template_folder="host_templates",
    )
    app.config.from_mapping(config)
    app.jinja_env.filters["duration"] = lambda text: f"host's {text}"
    app.jinja_env.globals["site"] = "host's site"
    for name in _NAMES:
        blueprint = Blueprint(name, __name__, url_prefix=f"/host/{name}")
        blueprint.get("/", endpoint="show")(_answer(name))
        app.register_blueprint(blueprint)

    @app.get("/")
    async def index() -> str:
        return await render_template_string(_TEMPLATE)

    @app.get("/shop")
    async def shop_window() -> str:
        return await render_template("index.html")

    @app.post("/upload")
    async def upload() -> dict[str, int]:
        return {"size": len(await request.get_data())}

    @app.websocket("/echo")
    async def echo() -> None:
        await websocket.send(await websocket.receive())

    _add_faults(app)
    if jobs is not None:
        jobs.init_app(app)
    return app


def _add_faults(app: Quart) -> None:
    """Routes that fail, and what the host answers then."""

    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError("the host's own")

    @app.get("/gone")
    async def gone() -> str:
        abort(410)

    @app.errorhandler(404)
    async def on_missing(_: HTTPException) -> tuple[str, int]:
        return "the host's 404", 404

    @app.errorhandler(500)
    async def on_fault(_: HTTPException) -> tuple[str, int]:
        return "the host's 500", 500


def _answer(name: str) -> Any:
    async def answer() -> str:
        return f"the host's {name}"

    return answer
