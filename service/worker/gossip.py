"""Leaves Celery's gossip out of a worker, unless a setting asks for it.

By gossip each worker hears every heartbeat of all others, on a connection of its own: of a thousand
workers, five hundred a second each. It is for elections, which nothing here holds.
"""

from typing import Any

from celery import bootsteps

from service.parts import parts_of


class GossipStep(bootsteps.Step):
    """Decides it before Celery makes the parts of the worker's consumer."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        if parts_of(worker.app.quart_app).settings.gossip == "off":
            worker.options["without_gossip"] = True
