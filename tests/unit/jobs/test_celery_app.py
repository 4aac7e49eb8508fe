"""The Celery app as other tools see it."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.concurrency.base import BasePool
from celery.utils.time import maybe_make_aware
from kombu.transport import virtual
from kombu.utils import symbol_by_name

from service import create_app, get_celery
from service.broker.transport.transport import (
    ClusterTransport,
    SecureClusterTransport,
    SecureTransport,
    SentinelTransport,
    Transport,
)
from service.errors import ConfigurationError
from service.jobs.celery.capture import capture_publishes
from service.jobs.celery.settings import BACKENDS


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_the_broker_is_called_what_its_users_call_it(scheme: str) -> None:
    """Flower's page of the broker knows no dotted path of a transport."""
    url = f"{scheme}://:secret@127.0.0.1:6390/2"
    options = {"SERVICE_CELERY__redis_backend_use_ssl": {"ssl_cert_reqs": "required"}}
    app = create_app({"SERVICE_REDIS_URL": url, **(options if scheme == "rediss" else {})})
    with get_celery(app).connection() as connection:
        assert connection.as_uri(include_password=True) == url
        assert "secret" not in connection.as_uri()


@pytest.mark.parametrize(
    ("scheme", "transport"),
    [
        ("redis", Transport),
        ("rediss", SecureTransport),
        ("sentinel", SentinelTransport),
        ("redis-cluster", ClusterTransport),
        ("rediss-cluster", SecureClusterTransport),
    ],
)
def test_the_transport_goes_by_the_scheme(scheme: str, transport: type) -> None:
    """`broker_transport` names it by a dotted path, which nothing else would check."""
    options = {
        "SERVICE_CELERY__broker_transport_options": {"master_name": "m", "global_keyprefix": "{s}"},
        "SERVICE_CELERY__result_backend_transport_options": {"global_keyprefix": "{s}"},
    }
    config = {"SERVICE_REDIS_URL": f"{scheme}://127.0.0.1:6390/2", **options}
    path = get_celery(create_app(config)).conf.broker_transport
    assert symbol_by_name(path) is transport


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("service.worker.pool:AsyncioPool", BasePool),
        ("service.broker.transport:Transport", virtual.Transport),
        ("service.broker.transport:SecureTransport", virtual.Transport),
        ("service.broker.transport:SentinelTransport", virtual.Transport),
        ("service.broker.transport:ClusterTransport", virtual.Transport),
        ("service.broker.transport:SecureClusterTransport", virtual.Transport),
        ("service.worker.backend:Backend", RedisBackend),
        ("service.worker.backend:SentinelBackend", SentinelBackend),
        ("service.worker.backend:ClusterBackend", RedisBackend),
    ],
)
def test_paths_that_users_may_have_in_their_settings_lead_on(path: str, base: type) -> None:
    """Wherever the classes move to in this package."""
    assert issubclass(symbol_by_name(path), base)


@pytest.mark.parametrize(
    ("url", "transport", "scheme"),
    [
        ("amqp://guest@127.0.0.1:5679//", None, "amqp"),
        ("redis://127.0.0.1:6399/3", "service.broker.transport:Transport", "redis"),
    ],
)
def test_the_variable_that_celery_goes_by_is_gone_by(
    url: str, transport: str | None, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery lets it win over all that it is told: our transport would talk to a RabbitMQ."""
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    elsewhere = {"SERVICE_CELERY__broker_url": "redis://127.0.0.1:6398/1"}
    celery = get_celery(create_app({"SERVICE_REDIS_URL": "redis://127.0.0.1:6390/2", **elsewhere}))
    assert celery.conf.broker_transport == transport
    assert ("lease" in celery.conf.broker_transport_options) is (transport is not None)
    with celery.connection() as connection:
        assert connection.as_uri().startswith(f"{scheme}://")


@pytest.mark.parametrize(
    "name", ["CELERY_RESULT_BACKEND", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"]
)
def test_variables_of_celery_that_would_part_the_service_are_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results where nobody reads them, and jobs where no worker looks for them."""
    monkeypatch.setenv(name, "redis://127.0.0.1:6399/3")
    with pytest.raises(ConfigurationError, match=name):
        get_celery(create_app())


@pytest.mark.parametrize(("enable_utc", "offset"), [(True, 0), (False, 9)])
@pytest.mark.parametrize("option", ["eta", "expires"])
def test_a_moment_without_an_offset_is_meant_in_celerys_timezone(
    option: str, enable_utc: bool, offset: int
) -> None:
    """Only with `enable_utc` it is UTC. A stock client sends it as it is, and workers read UTC."""
    conf: dict[str, Any] = {"enable_utc": enable_utc, "timezone": "Asia/Tokyo"}
    moment = datetime(2100, 1, 1, 12)
    config = {f"SERVICE_CELERY__{name.upper()}": value for name, value in conf.items()}
    task: Any = get_celery(create_app(config)).tasks["demo.my_add"]
    with capture_publishes() as capture:
        task.apply_async((1, 2), **{option: moment})
    stock: Any = Celery(set_as_current=False)
    stock.conf.update(conf)
    by_stock = stock.amqp.as_task_v2("id", "demo.my_add", **{option: moment}).headers[option]
    ours, theirs = (
        maybe_make_aware(
            datetime.fromisoformat(text), ZoneInfo("Asia/Tokyo")
        )  # as Celery's worker does
        for text in (capture.calls[0].options["headers"][option], by_stock)
    )
    assert ours == moment.replace(tzinfo=timezone(timedelta(hours=offset)))
    assert theirs == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize("how", ["update", "object"])
def test_what_is_configured_after_the_app_was_built_reaches_its_tasks(how: str) -> None:
    """As in any Celery app: tasks are made when they are first asked for."""
    celery = get_celery(create_app({"SERVICE_REDIS_URL": "redis://127.0.0.1:6390/2"}))
    settings = {
        "task_time_limit": 7,
        "task_acks_late": False,
        "task_annotations": {"*": {"rate_limit": "9/s"}},
    }
    if how == "update":
        celery.conf.update(settings)
    else:
        celery.config_from_object(SimpleNamespace(**settings))

    @celery.task(name="later", shared=False)
    def later() -> None: ...

    for name in ("later", "demo.my_add"):
        task = celery.tasks[name]
        found = task.time_limit, task.acks_late, task.rate_limit
        assert found == (7, False, "9/s")
    assert celery.conf.worker_pool == "service.worker.pool:AsyncioPool"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "sentinel"])
def test_the_result_backend_is_called_what_its_users_call_it(scheme: str) -> None:
    """Other programs ask `conf.result_backend.startswith("redis")`."""
    options = {"SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS": {"master_name": "mine"}}
    celery = get_celery(
        create_app({"SERVICE_REDIS_URL": f"{scheme}://127.0.0.1:6390/2", **options})
    )
    assert celery.conf.result_backend.startswith(f"{scheme}://127.0.0.1:6390/2")
    path = BACKENDS[scheme]
    assert type(celery.backend) is symbol_by_name(path)
