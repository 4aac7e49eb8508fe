"""Tasks that make spans; a process that has `TRACED_SPANS` is instrumented by OpenTelemetry."""

import asyncio
import os
import re
from collections.abc import Mapping
from typing import IO, Any

from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from service import TaskBlueprint
from tests.support.process import ROOT
from tests.support.sample_tasks import add

tasks = TaskBlueprint("traced")


@tasks.task
async def nap(number: int) -> None:
    """Make spans in the body, in a child task and in a thread, while others do."""
    tracer = trace.get_tracer("traced")

    def in_thread() -> None:
        with tracer.start_as_current_span(f"thread {number}"):
            pass

    async def child() -> None:
        with tracer.start_as_current_span(f"child {number}"):
            await asyncio.sleep(0.01)

    with tracer.start_as_current_span(f"body {number}"):
        await asyncio.gather(child(), child(), asyncio.to_thread(in_thread))


@tasks.task
def sync_nap(number: int) -> None:
    """The same in a plain function."""
    with trace.get_tracer("traced").start_as_current_span(f"body {number}"):
        pass


@tasks.task
async def enqueue_another() -> None:
    """Have another job run in the same trace."""
    await add.enqueue(1, 2)


def line_of(span: ReadableSpan) -> str:
    """One line of JSON."""
    return str(span.to_json(indent=None)) + "\n"


def spans_to(file: IO[str]) -> TracerProvider:
    """What writes each span into the file at its end."""
    provider = TracerProvider()
    provider.add_span_processor(
        SimpleSpanProcessor(ConsoleSpanExporter(out=file, formatter=line_of))
    )
    return provider


def instrumentor() -> Any:
    """The only one of the process; it has no types."""
    make: Any = CeleryInstrumentor
    return make()


def name_by_conventions() -> dict[str, Any]:
    """Connect the receivers that the guide has for that; its names."""
    guide = (ROOT / "service/docs/logging.md").read_text()
    (code,) = re.findall(r"```python\n([^`]*before_task_publish[^`]*)```", guide)
    names: dict[str, Any] = {}
    exec(compile(code, "logging.md", "exec"), names)  # noqa: S102  it is our own guide
    return names


def ids_of(span: Mapping[str, Any]) -> tuple[str, str]:
    """The trace and the span of a line."""
    context = span["context"]
    return context["trace_id"].removeprefix("0x"), context["span_id"]


if "TRACED_SPANS" in os.environ:
    path = os.environ["TRACED_SPANS"]
    trace.set_tracer_provider(spans_to(open(path, "a")))  # noqa: PTH123, SIM115  until the end
    instrumentor().instrument()
    NAMES = name_by_conventions()  # Celery's signals hold the receivers weakly
