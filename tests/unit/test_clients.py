"""Where the Redis of the broker is."""

import pytest

from service.results.clients import broker_redis_url
from service.settings import celery_environment, read_settings

RESULTS = "redis://results/0"


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        ({}, "", RESULTS),
        ({"SERVICE_CELERY__BROKER_URL": "redis://broker/0"}, "", "redis://broker/0"),
        ({"SERVICE_CELERY__BROKER_URL": "amqp://broker"}, "", RESULTS),
        ({"SERVICE_CELERY__BROKER_URL": "redis://broker/0"}, "rediss://env/0", "rediss://env/0"),
    ],
)
def test_the_brokers_redis_is_where_celery_has_it(
    given: dict[str, str], variable: str, expected: str
) -> None:
    """Or that of the results, where the broker is no Redis."""
    environment = {"CELERY_BROKER_URL": variable}
    settings = read_settings(
        {}, {"SERVICE_REDIS_URL": RESULTS, **given}, celery_environment(environment)
    )
    assert broker_redis_url(settings) == expected
