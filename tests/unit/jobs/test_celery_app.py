"""The Celery app as other tools see it."""

import pytest
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.concurrency.base import BasePool
from kombu.transport import virtual
from kombu.utils import symbol_by_name

from service import create_app, get_celery
from service.broker.transport.transport import SecureTransport, SentinelTransport, Transport
from service.errors import ConfigurationError


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
    [("redis", Transport), ("rediss", SecureTransport), ("sentinel", SentinelTransport)],
)
def test_the_transport_goes_by_the_scheme(scheme: str, transport: type) -> None:
    """`broker_transport` names it by a dotted path, which nothing else would check."""
    options = {"SERVICE_CELERY__broker_transport_options": {"master_name": "mine"}}
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
        ("service.worker.backend:Backend", RedisBackend),
        ("service.worker.backend:SentinelBackend", SentinelBackend),
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
