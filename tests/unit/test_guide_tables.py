"""The tables of the guides have what the code has: every setting, and every address."""

import re
from dataclasses import fields

from quart import Quart

from service import create_app
from service.settings import PREFIX, Settings
from tests.support.process import ROOT

GUIDES = ROOT / "service/docs"


def settings_table() -> str:
    """The settings as a Markdown table, as settings.md has it."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for setting in fields(Settings):
        if not setting.metadata:
            continue
        default, unit = setting.default, setting.metadata["unit"]
        shown = ",".join(default) if isinstance(default, tuple) else f"{default}"
        value = f"`{shown}` {unit}".strip() if shown else "(none)"
        rows.append(
            f"| `{PREFIX}{setting.name.upper()}` | {value} | {setting.metadata['meaning']} |"
        )
    return "\n".join(rows)


def test_every_setting_is_in_the_guide() -> None:
    """With its default, unit and meaning; a row that is missing is shown as it is to be added."""
    guide = (GUIDES / "settings.md").read_text()
    assert [row for row in settings_table().splitlines() if row not in guide] == []
    told = set(re.findall(rf"^\| `{PREFIX}(\w+)` ", guide, re.MULTILINE))
    assert told == {setting.name.upper() for setting in fields(Settings) if setting.metadata}
    assert f"| `{PREFIX}CELERY__<setting>` |" in guide


def routes(app: Quart) -> set[tuple[str, str]]:
    """Method and path of each route that is no file."""
    return {
        (method, re.sub(r"<\w+:", "<", str(rule)).replace("<job_id>", "<id>"))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in {"HEAD", "OPTIONS"} and not rule.endpoint.endswith("static")
    }


def test_every_address_is_in_the_guide() -> None:
    """And no other; one is there only when it is asked for."""
    guide = (GUIDES / "http.md").read_text()
    told = set(re.findall(r"^\| `([A-Z]+) (/[^ `?]*)", guide, re.MULTILINE))
    assert told == routes(create_app({"SERVICE_METRICS": "on"}))
