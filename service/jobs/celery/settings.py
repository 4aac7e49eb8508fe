"""Translates the service's settings into Celery's configuration."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from celery.app.defaults import SETTING_KEYS

from service.errors import ConfigurationError
from service.jobs.celery.quorum import AMQP_SCHEMES, QUORUM, uses_quorum_queues
from service.redis.clients import broker_url, is_redis, sentinel_options
from service.redis.keys import result_keys
from service.settings import Settings

# By dotted path: these rooms are above this one, or beside it.
_CONSUMER: Final = "service.broker.transport.consumer:LeasedConsumer"
_AMQP_CONSUMER: Final = "service.worker.rabbitmq.buffering:BufferingConsumer"
_QUORUM_CONSUMER: Final = "service.worker.rabbitmq.consumer:Consumer"
_POOL: Final = "service.worker.pool:AsyncioPool"
BACKENDS: Final = {
    "redis": "service.worker.backend:Backend",
    "rediss": "service.worker.backend:Backend",
    "sentinel": "service.worker.backend:SentinelBackend",
    "redis-cluster": "service.worker.backend:ClusterBackend",
    "rediss-cluster": "service.worker.backend:ClusterBackend",
}
TRANSPORTS: Final = {
    "redis": "service.broker.transport:Transport",
    "rediss": "service.broker.transport:SecureTransport",
    "sentinel": "service.broker.transport:SentinelTransport",
    "redis-cluster": "service.broker.transport:ClusterTransport",
    "rediss-cluster": "service.broker.transport:SecureClusterTransport",
}

# Given by the user, these are merged with ours.
_MERGED: Final = ("broker_transport_options", "result_backend_transport_options")
_ONLY_JSON: Final[dict[str, Any]] = {
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
}
_ONE_BROKER: Final = "jobs are taken from where they are sent to. Set SERVICE_CELERY__BROKER_URL."
# Why these cannot be set, neither as settings nor by the variables that Celery reads.
_REFUSED: Final = {
    "result_backend": "results are in the Redis of SERVICE_REDIS_URL, where /result/<id> reads"
    " them.",
    "broker_read_url": _ONE_BROKER,
    "broker_write_url": _ONE_BROKER,
}


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Celery's configuration for these settings; those given as SERVICE_CELERY__* win.

    Raises ConfigurationError for a name that Celery does not know, and for a value that this
    service cannot work with.
    """
    given = settings.celery
    if problems := [*_problems(given), *_problems_of_address(broker_url(settings))]:
        raise ConfigurationError(*problems)
    return {
        "broker_url": broker_url(settings),
        **_transport(settings),
        "broker_connection_timeout": settings.redis_timeout,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": _result_backend(settings.redis_url),
        "result_backend_transport_options": {
            **sentinel_options(given),
            **(given.get("result_backend_transport_options") or {}),
        },
        "result_expires": settings.result_expires,
        # What a chord counts: as long as its parts may be open.
        "result_chord_expires": result_keys(settings).open_ttl,
        "result_backend_always_retry": True,
        # One backend for all threads of a process; else each builds its own, with connections.
        "result_backend_thread_safe": True,
        "redis_socket_timeout": 5.0,
        "redis_socket_connect_timeout": settings.redis_timeout,
        "worker_pool": _POOL,
        "task_track_started": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        **_ONLY_JSON,
        **{name: value for name, value in given.items() if name not in _MERGED},
    }


def _problems(given: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        setting = f"SERVICE_CELERY__{name.upper()}"
        if name not in SETTING_KEYS:
            yield f"{setting} is not a setting of Celery."
        elif name in _ONLY_JSON and value != _ONLY_JSON[name]:
            yield (
                f"{setting}={value!r} cannot be used: messages and results are JSON only, so that"
                " no one who can write to Redis can run code here."
            )
        elif name in _REFUSED:
            variable = f"CELERY_{name.upper()} in the environment"
            yield f"{setting}, or {variable}, cannot be used: {_REFUSED[name]}"
        elif name == "task_always_eager" and value:
            yield (
                f"{setting} cannot be used: a job would run, and block, where it is enqueued. Call"
                " the task itself, which is a plain function."
            )


def _problems_of_address(url: str) -> Iterator[str]:
    """Kombu takes nothing else behind the `?` of a Redis' address, and redis-py no other names."""
    if not is_redis(url):
        return
    for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if not name.startswith("ssl_"):
            yield (
                f"The address of the broker cannot have `{name}=`: behind its `?` only options may"
                " stand whose names begin with `ssl_`. SERVICE_REDIS_TIMEOUT is how long Redis may"
                " take, and the protocol is RESP3."
            )


def _transport(settings: Settings) -> dict[str, Any]:
    """The transport that loses nothing, where the broker is a Redis; else Celery's own."""
    given = settings.celery
    options = {**sentinel_options(given), **given.get("broker_transport_options", {})}
    scheme = broker_url(settings).partition(":")[0]
    if not settings.lease or scheme not in TRANSPORTS or "broker_transport" in given:
        return {
            **_consumer(scheme),
            **_quorum_queues(scheme, given),
            "broker_transport_options": options,
            # Kombu puts back jobs that still run: better to start them anew than run them twice.
            "worker_cancel_long_running_tasks_on_connection_loss": True,
        }
    return {
        "broker_transport": TRANSPORTS[scheme],
        "broker_transport_options": {
            "lease": settings.lease,
            "max_deliveries": settings.max_deliveries,
            **options,
        },
        "worker_consumer": _CONSUMER,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # What Redis refuses, it may take in a moment: no reason for a worker to end.
        "broker_channel_error_retry": True,
    }


def _consumer(scheme: str) -> dict[str, Any]:
    return {"worker_consumer": _AMQP_CONSUMER} if scheme in AMQP_SCHEMES else {}


def _quorum_queues(scheme: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """How queues are declared on RabbitMQ: as quorum queues, unless classic ones are asked for."""
    chosen = {"broker_url": f"{scheme}:", "task_default_queue_type": QUORUM, **given}
    if not uses_quorum_queues(chosen):
        return {}
    return {
        "task_default_queue_type": QUORUM,
        "task_create_missing_queue_type": QUORUM,
        # Celery delays jobs in RabbitMQ where the exchanges of their queues are no direct ones.
        "task_default_exchange_type": "topic",
        "task_create_missing_queue_exchange_type": "topic",
        "worker_consumer": _QUORUM_CONSUMER,
        # A job that outlives consumer_timeout, or queues that exist otherwise: see the consumer.
        "broker_channel_error_retry": True,
    }


def _result_backend(redis_url: str) -> str:
    if redis_url.startswith("rediss:") and "ssl_cert_reqs=" not in redis_url:
        # redis-py's default, without which Celery refuses the address.
        redis_url += ("&" if "?" in redis_url else "?") + "ssl_cert_reqs=required"
    return redis_url
