"""Has schemathesis ask for jobs that there are, and look for what no answer may have."""

import re
from typing import Any, Final

import schemathesis

HIDDEN: Final = "what-nobody-but-eve-may-see"
_IDS: Final = ("job-of-ada", "job-of-eve")
_GOOD_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@schemathesis.hook
def map_path_parameters(_: Any, parameters: Any) -> Any:
    """Put the id of a job in place of most ids that could be one."""
    given = (parameters or {}).get("job_id")
    if isinstance(given, str) and _GOOD_ID.fullmatch(given) and ord(given[0]) % 3:
        return {**parameters, "job_id": _IDS[len(given) % len(_IDS)]}
    return parameters


@schemathesis.check
def nothing_of_another_is_shown(_: Any, response: Any, case: Any) -> None:
    """Neither what eve's job has nor, to a request that does not name it, its id."""
    text = f"{dict(response.headers)} {response.text}"
    assert HIDDEN not in text
    assert "job-of-eve" not in text or "job-of-eve" in str(response.request.url)
