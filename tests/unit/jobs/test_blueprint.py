"""Blueprints record functions; handles are those functions, and more."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Task
from quart import Quart

from service import TaskBlueprint, create_app, get_celery
from service.errors import (
    ConfigurationError,
    DuplicateTaskError,
    InvalidArgumentsError,
    NoAppContextError,
    NoJobsError,
)
from service.parts import parts_of


def blueprint_with(name: str = "one") -> TaskBlueprint:
    blueprint = TaskBlueprint(name)

    @blueprint.task
    def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    return blueprint


def test_called_directly_a_handle_is_the_plain_function() -> None:
    """So that a task can be unit-tested like anything else."""
    blueprint = TaskBlueprint("one")

    @blueprint.task(public=True)
    async def triple(number: int) -> int:
        """Three times the number."""
        return 3 * number

    assert asyncio.run(triple(2)) == 6
    assert (triple.name, triple.__doc__, triple.public) == (
        "one.triple",
        "Three times the number.",
        True,
    )


async def test_a_bound_function_called_directly_gets_its_task() -> None:
    """From the app that is current."""
    blueprint = TaskBlueprint("one")

    @blueprint.task(bind=True)
    def name_of(self: Any) -> str:
        return str(self.name)

    app = create_app()
    blueprint.register(app)
    async with app.app_context():
        assert name_of() == "one.name_of"


def test_registering_needs_no_celery() -> None:
    """An app that never enqueues never pays for Celery."""
    app = create_app()
    blueprint_with().register(app)
    assert "one.double" in parts_of(app).tasks
    assert parts_of(app).celery.built is None


def test_two_functions_of_one_name_are_told_at_start() -> None:
    """Celery keeps the first and says nothing to whoever called the second."""
    app = create_app()
    blueprint_with().register(app)
    with pytest.raises(
        DuplicateTaskError, match=r"one\.double.* taken twice: by .*double"
    ) as caught:
        blueprint_with().register(app)
    assert str(caught.value).count(f"({__file__}:") == 2


def test_registering_a_blueprint_twice_is_harmless() -> None:
    """A module may be named by setting and found by itself."""
    app = create_app()
    blueprint = blueprint_with()
    blueprint.register(app)
    blueprint.register(app)
    assert parts_of(app).tasks["one.double"] is blueprint.handles[0]


def test_an_app_without_jobs_says_what_to_do() -> None:
    """Its tasks would be known to nobody."""
    with pytest.raises(NoJobsError, match=r"'bare' has no jobs\. Call `jobs\.init_app\(app\)`"):
        blueprint_with().register(Quart("bare"))


async def test_outside_of_an_app_a_handle_says_what_to_do() -> None:
    """It cannot know which broker is meant."""
    (handle,) = blueprint_with().handles
    with pytest.raises(NoAppContextError, match=r"app\.app_context\(\)"):
        await handle.enqueue(1)
    with pytest.raises(NoAppContextError):
        handle.delay(1)


@pytest.mark.parametrize("name", ["", "a.b"])
def test_a_blueprint_name_is_one_word(name: str) -> None:
    """It is the part of the task's name before the dot."""
    with pytest.raises(ConfigurationError):
        TaskBlueprint(name)


def test_a_blueprint_that_comes_too_late_is_told() -> None:
    """Its tasks would be known to the app, and to no worker."""
    app = create_app()
    get_celery(app)
    with pytest.raises(ConfigurationError, match="too late"):
        blueprint_with().register(app)


def test_a_module_that_is_not_there_is_named() -> None:
    """With where to look; an error inside of a module stays that module's own."""
    with pytest.raises(ConfigurationError, match=r"SERVICE_TASK_MODULES names 'no\.such'"):
        create_app({"SERVICE_TASK_MODULES": "no.such"})


def test_a_module_without_a_blueprint_is_refused() -> None:
    """Its tasks would be missed only when somebody enqueues one."""
    with pytest.raises(ConfigurationError, match="names 'json', which has neither a TaskBlueprint"):
        create_app({"SERVICE_TASK_MODULES": "json"})


def test_an_option_that_nobody_reads_is_refused() -> None:
    """Celery keeps it as an attribute: `time_limt=3` would limit nothing, and say nothing."""
    blueprint = TaskBlueprint("one")
    blueprint.task(name="one.mistaken", time_limt=3)(print)
    app = create_app()
    blueprint.register(app)
    with pytest.raises(ConfigurationError, match="'time_limt' is not an option of a task"):
        get_celery(app)


def test_an_attribute_of_the_base_class_is_an_option() -> None:
    """As tasks with a base class of their own are told what it needs."""

    class Base(Task):  # type: ignore[type-arg]  # celery-types: generic, Celery: not
        table = ""

    blueprint = TaskBlueprint("one")

    @blueprint.task(base=Base, table="users", compression="gzip", retry_backoff=True, max_retries=3)
    def based() -> None: ...

    app = create_app()
    blueprint.register(app)
    assert vars(type(get_celery(app).tasks["one.based"]))["table"] == "users"


def test_celery_is_built_once_for_each_app_on_first_use() -> None:
    """Two apps in one process have tasks and brokers of their own."""
    first = create_app({"SERVICE_REDIS_URL": "redis://127.0.0.1:1/0"})
    second = create_app({"SERVICE_REDIS_URL": "redis://127.0.0.1:2/0"})
    assert parts_of(first).celery.built is None
    assert get_celery(first) is get_celery(first)
    assert get_celery(first) is not get_celery(second)
    tasks = [get_celery(app).tasks["demo.my_add"] for app in (first, second)]
    assert tasks[0] is not tasks[1]
    assert [task.app.conf.broker_url for task in tasks] == [
        "redis://127.0.0.1:1/0",
        "redis://127.0.0.1:2/0",
    ]


async def test_a_signature_belongs_to_the_current_app() -> None:
    """Chains made in one app's request never go to another's broker."""
    apps = [create_app(), create_app()]
    from service.tasks.demo import my_add  # noqa: PLC0415  as a request handler would have it

    for app in apps:
        async with app.app_context():
            assert my_add.s(1, 2).app is get_celery(app)


def test_unknown_celery_settings_and_other_serializers_are_refused() -> None:
    """Pickle would let whoever can write to Redis run code in the workers."""
    app = create_app(
        {
            "SERVICE_CELERY__TASK_SERIALIZER": "pickle",
            "SERVICE_CELERY__ACCEPT_CONTENT": ["json", "pickle"],
            "SERVICE_CELERY__TASK_ACKS_LATELY": True,
            "SERVICE_CELERY__TASK_ALWAYS_EAGER": "true",
            "SERVICE_CELERY__RESULT_BACKEND": "rpc://",
        }
    )
    with pytest.raises(ConfigurationError) as caught:
        get_celery(app)
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("option", ["protocol=2", "socket_timeout=1", "db="])
def test_what_kombu_takes_from_no_address_is_refused(option: str) -> None:
    """Its own words are "unexpected keyword argument"; and of TLS alone it takes something."""
    app = create_app({"SERVICE_REDIS_URL": f"redis://127.0.0.1/0?{option}"})
    name = option.partition("=")[0]
    with pytest.raises(
        ConfigurationError, match=f"The address of the broker cannot have `{name}=`"
    ):
        get_celery(app)
    secure = create_app({"SERVICE_REDIS_URL": "rediss://127.0.0.1/0?ssl_ca_certs=ca.pem"})
    assert get_celery(secure).conf.broker_url.endswith("ca.pem")


def test_any_celery_setting_can_be_given() -> None:
    """And wins over ours."""
    app = create_app({"SERVICE_CELERY__WORKER_PREFETCH_MULTIPLIER": "7"})
    assert get_celery(app).conf.worker_prefetch_multiplier == 7


@pytest.mark.slow
def test_importing_the_package_does_not_import_the_worker() -> None:
    """The web side has no use for it, and it is named by dotted path alone."""
    code = (
        "import sys; from service import create_app; create_app();"
        "sys.exit(any(m.startswith('service.worker') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_no_message_can_carry_is_refused_where_it_is_declared() -> None:
    """Argument or result, with a sentence; a result that is not stored may be anything."""
    blueprint = TaskBlueprint("one")

    def takes(number: complex) -> None: ...

    def returns() -> complex:
        return 1j

    with pytest.raises(ConfigurationError, match=r"'number' of task 'one\.takes' is a complex, "):
        blueprint.task(takes)
    with pytest.raises(ConfigurationError, match=r"result of task 'one\.returns' is a complex, "):
        blueprint.task(returns)
    blueprint.task(ignore_result=True)(returns)
    assert [handle.name for handle in blueprint.handles] == ["one.returns"]


forward = TaskBlueprint("forward")


@forward.task
def good(later: "Later") -> None: ...


@forward.task
def bad(later: "Worse") -> None: ...


@dataclass
class Later:
    """Defined when the tasks above have been declared."""

    x: int


class Worse:
    """Nothing that a message could carry."""


def test_a_name_may_be_defined_further_down() -> None:
    """As anywhere in Python: the annotation is read again when the task is registered."""
    app = create_app()
    with pytest.raises(ConfigurationError, match=r"'later' of task 'forward\.bad' is a .*Worse, "):
        forward.register(app)
    assert not good.arguments.unread
    assert not good.arguments.arrive_as_they_are


def test_a_name_that_is_never_there_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One that only type checkers import, say: then anything is taken."""
    blueprint = TaskBlueprint("one")

    @blueprint.task
    def unreadable(a: "NoSuchName", b: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    blueprint.register(create_app())
    assert "'a' of task 'one.unreadable' can't be read" in caplog.text
    unreadable.arguments.check((object(), 1), {})
    with pytest.raises(InvalidArgumentsError):
        unreadable.arguments.check((1, "x"), {})
