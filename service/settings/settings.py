"""Every setting: its name, default, unit and meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.settings.declaring import positive_int, seconds, setting, whole_number
from service.settings.limits import Limits, parse_limits
from service.settings.values import (
    one_of,
    port,
    read_hosts,
    read_names,
    read_origins,
    read_proxies,
    read_redis_url,
    read_secret,
    read_secrets,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The service's configuration; field `x` is the setting `SERVICE_X`."""

    redis_url: str = setting(
        "redis://127.0.0.1:6379/0", read_redis_url, "Where the broker and the results are."
    )
    redis_timeout: float = seconds(
        2.0, "How long a request may wait for Redis before it is answered with 503."
    )
    task_modules: tuple[str, ...] = setting(
        (),
        read_names,
        "Modules with task blueprints besides `service/tasks/`, separated by commas.",
    )
    result_expires: int = setting(
        86_400,
        positive_int,
        "How long a job's record and result are kept after its end.",
        "seconds",
    )
    result_access: str = setting(
        "id",
        one_of("id", "owner"),
        "Who sees a job that has no owner: `id`, whoever has its id; `owner`, administrators"
        " alone.",
    )
    signing_keys: tuple[str, ...] = setting(
        (),
        read_secrets,
        "Secrets that sign links to jobs, 16 letters or more, separated by commas: the first signs,"
        " all are believed, so that keys can be replaced one by one.",
        secret=True,
    )
    user_header: str = setting("", str, "The header by which a trusted proxy names the user.")
    roles_header: str = setting("", str, "That by which it names their roles, between commas.")
    max_result: int = setting(
        1_048_576,
        positive_int,
        "How large a job's record may be; a job whose result is larger fails.",
        "bytes",
    )
    sync_threads: int = setting(
        32,
        positive_int,
        "How many sync task bodies the asyncio pool runs at once; each has a thread.",
        "threads",
    )
    grace: float = seconds(
        30.0,
        "How long a worker that was told to stop lets its jobs go on, before it cancels them and"
        " gives them back to the queue (asyncio pool).",
        or_zero=True,
    )
    loop_warn: float = seconds(
        0.5,
        "How long a task may block the event loop before the log names it; 0 turns this off.",
        or_zero=True,
    )
    lease: float = seconds(
        30.0,
        "How long a worker holds a job before it must renew; a killed worker's jobs run again"
        " within 1.5 times this. 0 goes back to Celery's own Redis transport.",
        or_zero=True,
    )
    max_deliveries: int = setting(
        5,
        positive_int,
        "How often a job may be delivered without an end before it becomes a dead letter.",
        "deliveries",
    )
    gossip: str = setting(
        "off",
        one_of("off", "on"),
        "Whether each worker hears the heartbeats of all others, as Celery's `gossip` does by"
        " default; it takes a connection, and messages that grow with the square of the workers.",
    )
    enqueue_timeout: float = seconds(
        2.0, "How long handing a job to the broker may take before it is given up."
    )
    min_replicas: int = setting(
        0,
        whole_number,
        "How many replicas of Redis must have a job before `enqueue` and HTTP accept it.",
        "replicas",
    )
    max_body: int = setting(
        262_144, positive_int, "How long a request's body may be; a longer one is a 413.", "bytes"
    )
    body_timeout: float = seconds(
        10.0, "How long a request's body may take to come; a slower one is a 408."
    )
    max_queue: int = setting(
        100_000,
        positive_int,
        "How many jobs may wait in a queue before HTTP takes no more for it (429).",
        "jobs",
    )
    max_queue_bytes: int = setting(
        1_073_741_824,
        positive_int,
        "How many bytes may wait in a queue before HTTP takes no more jobs for it (429).",
        "bytes",
    )
    max_held_bytes: int = setting(
        4_294_967_296,
        positive_int,
        "How many bytes the results that are kept may have before HTTP takes no more jobs (429).",
        "bytes",
    )
    limits: Limits = setting(  # noqa: RUF009  a field, as the others are
        Limits(),
        parse_limits,
        "What one caller may have (429 beyond); see service/docs/security.md. `off`: no limits.",
    )
    max_waiters: int = setting(
        10_000,
        positive_int,
        "How many clients of one process may wait for a change of a job at once (503 beyond); one"
        " that waits for several jobs counts once more for each ten.",
        "waiters",
    )
    log: str = setting(
        "text",
        one_of("text", "json"),
        "How lines of the log look: `json`, one object for each; see service/docs/logging.md.",
    )
    job_log: str = setting(
        "on", one_of("on", "off"), "Whether what jobs log and print is kept, for their pages."
    )
    max_job_logs: int = setting(
        268_435_456, positive_int, "How much of it is kept; the oldest logs go first.", "bytes"
    )
    heartbeat: float = seconds(
        15.0, "How long an event stream may be silent before it carries a comment."
    )
    write_timeout: float = seconds(
        30.0, "How long a client may leave an event of a stream unread before it is cut off."
    )
    recent_jobs: int = setting(
        10_000, positive_int, "How many of the most recent jobs the dashboard lists.", "jobs"
    )
    admin_token: str = setting(
        "",
        read_secret,
        "What opens `/dashboard` to whoever sends it, 16 letters or more. Without it the dashboard"
        " is there only where callers have roles; `service dev` sets one and prints it.",
        secret=True,
    )
    metrics: str = setting(
        "off",
        one_of("off", "on"),
        "Whether a web process has `/metrics`, for Prometheus, behind the admin token; it needs the"
        " extra `metrics`.",
    )
    metrics_port: int = setting(
        0,
        port,
        "The port on which each process, worker or web, serves its own metrics, without a token; 0"
        " for none. It needs the extra `metrics`.",
    )
    metrics_host: str = setting(
        "127.0.0.1", str, "The address of that port: whoever reaches it may read the metrics."
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        read_proxies,
        "Addresses and networks of the proxies in front, or `unix`, separated by commas: what they"
        " say in `Forwarded` or `X-Forwarded-*` is believed, and of nobody else.",
    )
    trusted_hosts: tuple[str, ...] = setting(
        (),
        read_hosts,
        "The names that are served, separated by commas: `jobs.example`, `.example` for all below"
        " it, addresses and networks. A request for another one is refused with 421. Where it is"
        " not set, every name is served; `service dev` sets it to this machine's.",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        read_origins,
        "Origins of other sites whose pages may use the API, separated by commas.",
    )
    cors_credentials: str = setting(
        "omit",
        one_of("omit", "include"),
        "Whether their requests may have cookies (`include`), or are refused then (`omit`).",
    )
    hsts: float = seconds(
        31_536_000,
        "How long a browser that came over HTTPS is to come by nothing else"
        " (`Strict-Transport-Security`); 0 turns this off.",
        or_zero=True,
    )
    health_file: str = setting(
        "", str, "A file that the worker writes every 5 s while it is well, for `service health`."
    )
    health_port: int = setting(
        0,
        port,
        "The port on which a worker answers probes, `/healthz` and `/readyz`; 0 for none.",
    )
    health_host: str = setting("127.0.0.1", str, "The address of that port.")
    celery: Mapping[str, Any] = field(default_factory=dict)
