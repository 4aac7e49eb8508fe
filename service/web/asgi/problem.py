"""Problem details (RFC 9457), and an answer with them before there is an app to ask."""

from http import HTTPStatus
from typing import Any

import msgspec

from service.logs.ids import HEADER, request_id


class ProblemView(msgspec.Struct, frozen=True):
    """Problem details (RFC 9457); some have members besides these."""

    type: str
    title: str
    status: int
    detail: str

    @classmethod
    def of(cls, status: HTTPStatus, detail: str) -> "ProblemView":
        """The problem of a status that needs no type of its own."""
        return cls("about:blank", status.phrase, status.value, detail)


class RefusedError(Exception):
    """A request that no app is to see."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.problem = ProblemView.of(status, detail)


async def answer_problem(problem: ProblemView, scope: Any, send: Any) -> None:
    """Answer a request of ASGI with the problem, and have the connection closed."""
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if (named := request_id.get()) is not None:
        headers.append((HEADER.lower().encode(), named.encode()))
    if scope.get("http_version") != "2":  # which has no such header
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
