"""Carries a job's countdown to the script that publishes it, which knows the server's clock."""

from typing import Any, Final

# A property of the message on its way to the script. No message that is stored has it: the script
# says in `due`, beside the properties, at what time by its own clock the job is due.
COUNTDOWN: Final = "x-countdown"


def without_countdown(message: dict[str, Any]) -> tuple[dict[str, Any], float | None]:
    """Kombu's message without the property, and the countdown in seconds, if there is one."""
    if COUNTDOWN not in message["properties"]:
        return message, None
    properties = {k: v for k, v in message["properties"].items() if k != COUNTDOWN}
    return {**message, "properties": properties}, float(message["properties"][COUNTDOWN])
