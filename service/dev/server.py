"""What `service dev` runs: a private Valkey unless there is a Redis, a worker, a web process."""

import asyncio
import os
import re
import secrets
import shlex
import socket
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from service.dev.address import Address, listen
from service.dev.changes import watch
from service.dev.probe import Probe
from service.dev.supervisor import Command, Course, supervise
from service.dev.valkey import ADDRESS, ADMIN_TOKEN, private_valkey
from service.errors import DevServerError
from service.processes.guardian import Guardian

_REDIS_URL: Final = "SERVICE_REDIS_URL"
_TRUSTED_HOSTS: Final = "SERVICE_TRUSTED_HOSTS"
_GRACE: Final = "SERVICE_GRACE"
_NAME: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")  # of a machine
# Not for `/`, which would enqueue a job.
_PROBE: Final = b"HEAD /service-dev-probe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Apps:
    """Where the web side's app is, as Hypercorn takes it, and the worker's, as Celery does."""

    web: str
    worker: str


OWN_APPS: Final = Apps("asgi:app", "worker_entry")
BUILT_IN_APPS: Final = Apps("service.entry:web", "service.entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class DevOptions:
    """What `service dev` was asked for.

    `queues` are those that the workers take from, as Celery reads them; `reload` starts web and
    workers anew after a change in this folder, unless `check` fails, a command that tries the code
    and says what is wrong; `open_browser` shows the front page once it is served.
    """

    address: Address
    check: tuple[str, ...]
    concurrency: int | None = None
    data: Path | None = None
    queues: str | None = None
    workers: int = 1
    reload: bool = False
    open_browser: bool = False


def run_dev(
    apps: Apps, options: DevOptions, *, dashboard: str | None, front_page: str | None, limits: str
) -> None:
    """Run everything until asked to stop; nothing that it started is left when it returns.

    `dashboard` and `front_page` are where these are, without the last slash, and None where the web
    side has none; `limits` says what one caller may have. Raises DevServerError when something
    cannot start or ends by itself.
    """
    data = options.data
    redis_url = os.environ.get(_REDIS_URL)
    if redis_url and data:
        raise DevServerError(
            f"--data is for the private Valkey, but {_REDIS_URL} names a Redis. Use one of the two."
        )
    token = os.environ.get(ADMIN_TOKEN) or secrets.token_urlsafe(16)
    # Not for the workers: a job's code, and who reads its output, must not get the token.
    env: dict[str, str | None] = {ADMIN_TOKEN: None}
    hosts = os.environ.get(_TRUSTED_HOSTS) or ",".join(_own_names(options.address))
    for_web = {ADMIN_TOKEN: token, _TRUSTED_HOSTS: hosts}
    changes = None
    if options.reload:
        changes = watch(Path.cwd())
        # The jobs go back to the queue at once, and begin again with the new code.
        env[_GRACE] = os.environ.get(_GRACE, "0")
    stages: list[list[Command]] = []
    temporary: Path | None = None
    opening = f"Using the Redis of {_REDIS_URL}."
    with ExitStack() as stack:
        listener, address = listen(options.address)
        stack.enter_context(listener)
        if not redis_url:
            valkey, env[_REDIS_URL], folder = private_valkey(data, stack)
            temporary = None if data else folder
            kept = f"in {folder}" if data else "until the end of this run"
            # A terminal's text is copied, shown and kept: it has no password.
            address_file = shlex.quote(str(folder / ADDRESS))
            opening = (
                f"Private Valkey, data kept {kept}. For other commands:"
                f" export {_REDIS_URL}=$(cat {address_file})"
            )
            stages.append([valkey])
        guardian = stack.enter_context(Guardian(temporary))
        opening = f"{opening}\nLimits of one caller (SERVICE_LIMITS): {limits}"
        stages.append(
            [
                *_worker_commands(apps.worker, options, env),
                _web(
                    apps.web, listener.fileno(), address, {**env, **for_web}, reloads=options.reload
                ),
            ]
        )
        told = [f"Serving on {address.url} - press Ctrl-C to stop"]
        if dashboard is not None:
            # What comes after # stays in the browser, so that no log has the token.
            link = f"{address.url}{dashboard}/sign-in#token={quote(token, safe='')}"
            told.insert(0, f"Dashboard: {link}")
        shown = address.url
        if front_page:  # the app's own `/` may be anything, or nothing
            shown = f"{address.url}{front_page}/"
            told.insert(0, f"Tasks and jobs: {shown}")
        asyncio.run(
            supervise(
                stages,
                guardian=guardian,
                course=Course(
                    opening=opening,
                    when_ready="\n".join(told),
                    on_ready=partial(webbrowser.open, shown) if options.open_browser else None,
                    changes=changes,
                    check=Command(name="check", argv=options.check, env=env),
                ),
            )
        )


def _own_names(address: Address) -> list[str]:
    """The hosts by which a browser may ask for `service dev`: every IP address, and our own names.

    By any other name the request may come from a page of another site, whose owner has let the
    site's name stand for our address (DNS rebinding). An address cannot be made to do that.
    """
    machine = socket.gethostname().lower()
    names = [each for each in (address.host, machine) if _NAME.fullmatch(each)]
    return ["localhost", ".localhost", "0.0.0.0/0", "::/0", *names, *(f"{n}.local" for n in names)]


def _worker_commands(app: str, options: DevOptions, env: Mapping[str, str | None]) -> list[Command]:
    argv = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel", "INFO"]
    if options.concurrency is not None:
        argv += ["--concurrency", str(options.concurrency)]
    if options.queues is not None:
        argv += ["--queues", options.queues]
    names = ["worker"]
    if options.workers > 1:
        names = [f"worker{number}" for number in range(1, options.workers + 1)]
    return [
        Command(
            name=name,
            argv=(*argv, *(("--hostname", f"{name}@%h") if options.workers > 1 else ())),
            env=env,
            reloads=options.reload,
        )
        for name in names
    ]


def _web(
    app: str,
    listener: int,
    address: Address,
    env: Mapping[str, str | None],
    *,
    reloads: bool,
) -> Command:
    """The web process on the socket that we hold: no other process can take its port."""
    # With any processes of its own Hypercorn exits with 0 even when the app could not start.
    options = ("--bind", f"fd://{listener}", "--workers", "0")
    return Command(
        name="web",
        argv=(sys.executable, "-m", "hypercorn", app, *options),
        env=env,
        keep_open=(listener,),
        probe=Probe(address.reachable_host, address.port, _PROBE, b"HTTP/"),
        reloads=reloads,
    )
