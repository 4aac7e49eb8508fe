"""A host whose template is around our pages, as Hypercorn finds it."""

from pathlib import Path

from quart import Quart

from service import Jobs
from tests.support.host_app import shop

app = Quart(__name__, template_folder=str(Path(__file__).parent / "host_templates"))
Jobs(app, tasks=[shop], base_template="layout.html", title="Work")
