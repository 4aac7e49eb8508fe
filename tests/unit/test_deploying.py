"""The files of service/docs/deploying.md: their form, and what in them belongs together."""

import re
import shlex
from configparser import ConfigParser
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # it has no types
from quart import Quart

from service import Jobs, create_app
from service.metrics.counts import Counts
from service.metrics.exposition import Exposition
from service.metrics.queues import QueueReader, QueueState, Reading
from service.parts import parts_of
from tests.support.ports import free_port
from tests.support.process import ROOT

GUIDE = (ROOT / "service/docs/deploying.md").read_text()
OPERATING = (ROOT / "service/docs/operating.md").read_text()
FILES = {
    path.rpartition("/")[2]: text
    for path, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)
}
SETTINGS = parts_of(create_app()).settings
PROGRAMS = {
    words[0]: words
    for words in map(shlex.split, re.findall(r"^(?:celery|hypercorn) .*$", OPERATING, re.MULTILINE))
}
_LAST_ACTS = 10  # seconds that a worker may take beyond its grace, as operating.md says


def unit(name: str) -> Any:
    """The section of a unit that says how it runs."""
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as its documentation has it
    parser.read_string(FILES[name])
    return parser["Service"]


def deployment(name: str) -> tuple[Any, Any]:
    """The pod and its only container."""
    first = next(yaml.safe_load_all(FILES[name]))
    assert (first["apiVersion"], first["kind"]) == ("apps/v1", "Deployment")
    template = first["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert first["spec"]["selector"]["matchLabels"] == labels
    (container,) = template["spec"]["containers"]
    return template["spec"], container


def test_all_of_them_run_the_programs_of_the_other_guide() -> None:
    """tests/system runs those as they are written."""
    compose = yaml.safe_load(FILES["compose.yaml"])["services"]
    _, worker = deployment("worker.yaml")
    found = [unit("jobs-worker.service")["ExecStart"].split()]
    found += [compose["worker"]["command"], worker["command"]]
    found[0][0] = found[0][0].removeprefix("/srv/shop/.venv/bin/")
    assert found == [PROGRAMS["celery"]] * 3
    (command,) = re.findall(r"^CMD (.*)$", FILES["Dockerfile"], re.MULTILINE)
    serve = unit("jobs-web.service")["ExecStart"].removeprefix("/srv/shop/.venv/bin/").split()
    for words in (serve, yaml.safe_load(command)):
        assert words[:5] == [*PROGRAMS["hypercorn"], "--workers", "0", "--bind"]


def test_a_worker_has_the_time_of_its_grace_everywhere() -> None:
    """Killed before, it would have its jobs run again."""
    pod, _ = deployment("worker.yaml")
    compose = yaml.safe_load(FILES["compose.yaml"])["services"]["worker"]
    times = [
        int(unit("jobs-worker.service")["TimeoutStopSec"]),
        int(compose["stop_grace_period"].removesuffix("s")),
        pod["terminationGracePeriodSeconds"],
    ]
    assert min(times) >= SETTINGS.grace + _LAST_ACTS


@pytest.mark.parametrize("name", ["jobs-web.service", "jobs-worker.service"])
def test_systemd_waits_for_what_the_programs_say(name: str) -> None:
    """That they have started, and that they go on."""
    service = unit(name)
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0


def test_probes_ask_where_there_are_answers() -> None:
    """What restarts a pod asks nobody else; what keeps requests away asks for Redis."""
    pod, web = deployment("web.yaml")
    app = Quart("shop")
    Jobs(app, url_prefix="/jobs")  # as in embedding.md
    rules = {str(rule) for rule in app.url_map.iter_rules()}
    paths = {kind: web[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")}
    assert paths == {"startup": "/jobs/healthz", "liveness": "/jobs/healthz"}
    assert web["readinessProbe"]["httpGet"]["path"] == "/jobs/readyz"
    assert rules >= {"/jobs/healthz", "/jobs/readyz"}
    ports = {port["name"]: port["containerPort"] for port in web["ports"]}
    probed = {web[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness")}
    assert {ports[name] for name in probed} == {8000}
    assert pod["terminationGracePeriodSeconds"] > 10

    _, worker = deployment("worker.yaml")
    for kind in ("startup", "liveness"):
        assert worker[f"{kind}Probe"]["exec"]["command"] == ["service", "health"]
    assert "readinessProbe" not in worker
    given = {each["name"]: each["value"] for each in worker["env"]}
    create_app(given | {"SERVICE_METRICS_PORT": "0"})  # which knows all of these names
    compose = yaml.safe_load(FILES["compose.yaml"])["services"]
    in_compose = compose["worker"]["environment"]["SERVICE_HEALTH_FILE"]
    assert in_compose == given["SERVICE_HEALTH_FILE"]
    assert compose["worker"]["healthcheck"]["test"] == ["CMD", "service", "health"]
    assert ":8000/jobs/healthz" in compose["web"]["healthcheck"]["test"][-1]


class _ReadQueues(QueueReader):
    """Has read that a job waits."""

    def read(self) -> Reading:
        """One queue."""
        return Reading(True, 0, (QueueState("celery", 1, 0, 0, 0, oldest=30.0),))


def names_at_port(*, is_worker: bool) -> set[str]:
    """Names of the metrics that a process serves at its own port."""
    queues = _ReadQueues(parts_of(create_app()))
    exposition = Exposition(Counts(lambda _: True), queues, dict)
    port = free_port()
    server, thread = exposition.serve("127.0.0.1", port, is_worker=is_worker)
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return set(re.findall(r"^jobs_\w+", text, re.MULTILINE))


def test_workers_scale_by_a_metric_that_is_scraped() -> None:
    """The pods that have it serve it at the port that Prometheus finds by its name."""
    scaled = yaml.safe_load(FILES["scaling.yaml"])
    (trigger,) = scaled["spec"]["triggers"]
    (metric,) = re.findall(r"jobs_\w+", trigger["metadata"]["query"])
    files = {"web.yaml": False, "worker.yaml": True}
    having = [
        name for name, is_worker in files.items() if metric in names_at_port(is_worker=is_worker)
    ]
    assert having == ["web.yaml"]

    (scrape,) = yaml.safe_load(FILES["prometheus.yaml"])["scrape_configs"]
    kept = {
        rule["source_labels"][0].removeprefix("__meta_kubernetes_pod_"): rule["regex"]
        for rule in scrape["relabel_configs"]
        if rule["action"] == "keep"
    }
    for name in files:
        _, container = deployment(name)
        (app,) = next(yaml.safe_load_all(FILES[name]))["spec"]["selector"]["matchLabels"].values()
        env = {each["name"]: each["value"] for each in container["env"]}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports[kept["container_port_name"]] == int(env["SERVICE_METRICS_PORT"])
        assert env["SERVICE_METRICS_HOST"] == "0.0.0.0"
        assert re.fullmatch(kept["label_app"], app)

    name = scaled["spec"]["scaleTargetRef"]["name"]
    assert yaml.safe_load(FILES["worker.yaml"])["metadata"]["name"] == name
