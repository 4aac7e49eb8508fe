"""Reads a request's body as a JSON object, or says what is wrong with it."""

from typing import Any, Final

import msgspec
from quart import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from service.errors import InvalidArgumentsError

_DECODER: Final = msgspec.json.Decoder()


async def read_arguments(task: str) -> dict[str, Any]:
    """The arguments by name that the request's body has.

    Raises UnsupportedMediaType, BadRequest, InvalidArgumentsError, and RequestEntityTooLarge
    for more than SERVICE_MAX_BODY.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The arguments are sent as application/json.")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("The body is sent as it is, without a Content-Encoding.")
    data = await request.get_data(cache=False)
    try:
        values = _DECODER.decode(data)
    except RecursionError as error:
        raise BadRequest("The JSON is nested too deeply.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidArgumentsError(task, "", "the body is a JSON object of arguments by name")
    return values
