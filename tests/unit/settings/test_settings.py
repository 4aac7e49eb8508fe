"""Settings are read once, with all mistakes told at once."""

import pytest

from service.errors import ConfigurationError
from service.settings import Settings, read_settings


def test_a_later_source_wins() -> None:
    """create_app's mapping goes over the environment."""
    settings = read_settings(
        {"SERVICE_REDIS_TIMEOUT": "3", "HOME": "/"}, {"SERVICE_REDIS_TIMEOUT": 0.5}
    )
    assert settings.redis_timeout == 0.5
    assert settings.redis_url == Settings().redis_url


def test_all_mistakes_are_told_at_once() -> None:
    """An operator should not have to start the service once for each of them."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings(
            {
                "SERVICE_REDIS_URL": "localhost",
                "SERVICE_REDIS_TIMEOUT": "-1",
                "SERVICE_RESULT_EXPIRES": "soon",
                "SERVICE_REDIS_ULR": "redis://x",
            }
        )
    assert len(caught.value.problems) == 4
    for name in ("REDIS_URL", "REDIS_TIMEOUT", "RESULT_EXPIRES", "REDIS_ULR"):
        assert f"SERVICE_{name}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MAX_QUEUE", "1.5", "must be a whole number from 1 up"),
        ("MAX_QUEUE", float("inf"), "must be a whole number from 1 up"),
        ("GRACE", "soon", "must be a number of seconds from 0 up"),
        ("REDIS_TIMEOUT", None, "must be a number of seconds above 0"),
        ("TRUSTED_PROXIES", "10.0.0.1, web", "'web' does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_what_cannot_be_read_is_told_as_what_is_out_of_range(
    name: str, value: object, reason: str
) -> None:
    """Python's own words, "invalid literal for int()", do not say what a good value is."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings({f"SERVICE_{name}": value})
    assert caught.value.problems == (f"SERVICE_{name} cannot be used: {reason}.",)


def test_celery_settings_are_json_or_text() -> None:
    """Any of Celery's can be given, with numbers, booleans and objects as such."""
    settings = read_settings(
        {
            "SERVICE_CELERY__WORKER_CONCURRENCY": "4",
            "SERVICE_CELERY__task_default_queue": "mine",
            "SERVICE_CELERY__TASK_ROUTES": '{"a.b": {"queue": "c"}}',
        }
    )
    assert settings.celery == {
        "worker_concurrency": 4,
        "task_default_queue": "mine",
        "task_routes": {"a.b": {"queue": "c"}},
    }


def test_modules_are_separated_by_commas() -> None:
    """Spaces and empty parts do not matter."""
    settings = read_settings({"SERVICE_TASK_MODULES": " shop.tasks, mail.tasks,"})
    assert settings.task_modules == ("shop.tasks", "mail.tasks")


def test_a_password_is_not_repeated_in_a_mistake() -> None:
    """Start-up errors end up in logs."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"SERVICE_REDIS_URL": "http://:hunter2@host/0"})
    assert "hunter2" not in str(caught.value)


def test_an_admin_token_is_long_and_never_printed() -> None:
    """Not in the settings' repr, which logs and tracebacks may show."""
    with pytest.raises(ConfigurationError, match="SERVICE_ADMIN_TOKEN"):
        read_settings({"SERVICE_ADMIN_TOKEN": "short"})
    settings = read_settings({"SERVICE_ADMIN_TOKEN": "long enough to be one"})
    assert settings.admin_token == "long enough to be one"  # noqa: S105  of no server
    assert "long enough" not in repr(settings)
