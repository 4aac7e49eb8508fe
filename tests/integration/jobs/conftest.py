"""The app of the fixture `jobs`, which runs its jobs on the loop of the test."""

import pytest
from quart import Quart

from service import create_app


@pytest.fixture
def jobs_app() -> Quart:
    return create_app({"SERVICE_TASK_MODULES": "tests.support.sample_tasks"})
