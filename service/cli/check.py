"""`service check`: says what keeps the service from working, or from being open to the internet."""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

import click
from quart import Quart
from quart.cli import ScriptInfo, pass_script_info

from service.access.access import access_of
from service.broker.checks.startup import inspect_redis
from service.parts import get_celery, parts_of
from service.redis.clients import redis_urls


@click.command(
    "check", short_help="check the settings and Redis, with --production for the internet"
)
@click.option("--production", is_flag=True, help="also what service/docs/security.md asks for")
@pass_script_info
def check_service(info: ScriptInfo, production: bool) -> None:
    """Check the configuration; print a line for each fault, and exit with 1 if there are any."""
    app = info.load_app()
    get_celery(app)
    found = [finding.text for finding in inspect_redis(parts_of(app).settings)]
    if production:
        found += gaps(app)
    for text in found:
        click.echo(f"- {text}")
    if found:
        raise SystemExit(1)
    click.echo("Nothing was found.")


def gaps(app: Quart) -> Iterator[str]:
    """What of the checklist for going public the app lacks."""
    parts = parts_of(app)
    settings = parts.settings
    for url in redis_urls(settings):
        yield from _redis_gaps(url)
    if not settings.trusted_hosts:
        yield "Any Host is served. Set SERVICE_TRUSTED_HOSTS to the names of this service."
    if not settings.trusted_proxies:
        yield (
            "No proxy is trusted, so that behind one all clients are one, and cookies are not"
            " Secure. Set SERVICE_TRUSTED_PROXIES."
        )
    if not settings.hsts:
        yield "Browsers are not told to stay with HTTPS. Set SERVICE_HSTS."
    if settings.lease and get_celery(app).conf.worker_enable_remote_control:
        yield (
            "Whoever writes to Redis can stop the workers by Celery's remote control. Set"
            " SERVICE_CELERY__WORKER_ENABLE_REMOTE_CONTROL=false where no running job is to be"
            " cancelled."
        )
    if unlimited := settings.limits.off:
        yield (
            f"One caller may have all there is: {', '.join(unlimited)} are without a limit. Take"
            " `off` out of SERVICE_LIMITS."
        )
    yield from _access_gaps(app)
    if demo := sorted(name for name in parts.tasks if name.startswith("demo.")):
        yield f"Anyone may start the tasks of the demonstration, such as {demo[0]}. Delete them."


def _access_gaps(app: Quart) -> Iterator[str]:
    access, tasks = access_of(app), parts_of(app).tasks.values()
    settings = access.settings
    has_users = bool(settings.user_header or access.identify)
    # What a function says of somebody unknown is the app's own affair.
    may_be_public = any(task.public or callable(task.allow) for task in tasks)
    if has_users and not may_be_public and not access.owners_only:
        yield (
            "A job without an owner is everybody's who has its id, though only users start tasks."
            " Set SERVICE_RESULT_ACCESS=owner."
        )
    if settings.admin_token in settings.signing_keys:
        yield (
            "A process that signs links has the admin token, which is one of SERVICE_SIGNING_KEYS."
            " Make another secret for these."
        )


def _redis_gaps(address: str) -> Iterator[str]:
    url = urlsplit(address)
    where = f"the Redis at {url.hostname}"
    if not url.password:
        yield f"Whoever reaches {where} is let in. Give it a password, or better a user (ACL)."
    elif not url.username or url.username == "default":
        yield f"The service may do everything in {where}. Give it a user of its own (ACL)."
    if url.scheme != "rediss" and not _is_here(url.hostname or ""):
        yield f"What is said to {where} can be read on the way. Use rediss://."


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
