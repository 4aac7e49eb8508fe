"""Which servers close the channel of whoever has a job for long."""

from types import SimpleNamespace
from typing import Any

import pytest

from service.worker.rabbitmq.kept import has_one_timeout


@pytest.mark.parametrize(
    ("properties", "has"),
    [
        ({"version": "3.10.8"}, True),
        ({"version": "3.11.28"}, True),
        ({"version": "3.12.0"}, False),
        ({"version": "4.2.1"}, False),
        ({"version": "4.3.0-rc.1"}, False),
        ({"version": "unknown"}, False),
        ({}, False),
    ],
)
def test_servers_before_3_12_have_one_timeout_for_all(
    properties: dict[str, Any], has: bool
) -> None:
    """Later ones take it from each consumer."""
    assert has_one_timeout(SimpleNamespace(server_properties=properties)) is has
