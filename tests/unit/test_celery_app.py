"""The Celery app as other tools see it."""

import pytest
from kombu.utils import symbol_by_name

from service import create_app, get_celery
from service.broker.transport import SecureTransport, SentinelTransport, Transport


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
