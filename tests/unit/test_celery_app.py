"""The Celery app as other tools see it."""

import pytest

from service import create_app, get_celery


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_the_broker_is_called_what_its_users_call_it(scheme: str) -> None:
    """Flower's page of the broker knows no dotted path of a transport."""
    url = f"{scheme}://:secret@127.0.0.1:6390/2"
    options = {"SERVICE_CELERY__redis_backend_use_ssl": {"ssl_cert_reqs": "required"}}
    app = create_app({"SERVICE_REDIS_URL": url, **(options if scheme == "rediss" else {})})
    with get_celery(app).connection() as connection:
        assert connection.as_uri(include_password=True) == url
        assert "secret" not in connection.as_uri()
