"""Says of the moments among the options of a call what Celery leaves open: by which clock."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celery.utils.time import make_aware, maybe_iso8601, maybe_make_aware

from service.jobs.celery.quorum import QuorumQueue, QuorumQueues
from service.jobs.celery.settings import TRANSPORTS
from service.redis.countdown import COUNTDOWN


def moments_of(celery: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are to be added to those of a call, or to replace them.

    With `enable_utc` off, a moment without an offset from UTC gets that of `timezone`: Celery sends
    it as it is, and its workers take it for UTC. Our transports are told the countdown.
    """
    found: dict[str, Any] = {}
    if not celery.conf.enable_utc:
        for name in ("eta", "expires"):
            moment = options.get(name)
            if isinstance(moment, datetime) and moment.tzinfo is None:
                found[name] = make_aware(moment, celery.timezone)
    countdown = options.get("countdown")
    if countdown and celery.conf.broker_transport in TRANSPORTS.values():
        found[COUNTDOWN] = countdown
    return found


def delay_of(
    celery: Any, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a call, as `moments_of`, that have RabbitMQ delay it; none without an ETA.

    Celery publishes it to the exchange of the delay and declares nothing: the queue, which declares
    that too, is to be declared. RabbitMQ delays by whole seconds, and at least by one.
    """
    eta, countdown = options.get("eta"), options.get("countdown")
    if not (eta or countdown) or not isinstance(celery.amqp.queues, QuorumQueues):
        return {}
    queue = celery.amqp.router.route(dict(options), name, args or (), kwargs or {}).get("queue")
    if not isinstance(queue, QuorumQueue):
        return {}
    if eta:
        moment: Any = maybe_iso8601(eta)
        countdown = (maybe_make_aware(moment) - celery.now()).total_seconds()
    if countdown and 0 < countdown < 1:
        return {"declare": [queue], "eta": None, "countdown": 1}
    return {"declare": [queue]}
