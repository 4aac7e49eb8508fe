"""Signed links: an address that lets whoever has it see one job, until its end."""

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Final

from itsdangerous import BadData, URLSafeSerializer
from quart import current_app, url_for

from service.errors import ConfigurationError
from service.parts import parts_of

PARAMETER: Final = "t"  # `/result/<id>?t=…`
_SALT: Final = "service-link"
_WEEK: Final = 7 * 86_400
_MAX_LINKS: Final = 50  # of one request: as many as it can name jobs


def signed_link(job_id: str, *, seconds: float = _WEEK, external: bool = True) -> str:
    """The address of a job's page, for a mail: whoever has it sees the job, for so many seconds.

    To be called in a request, or where the app knows its `SERVER_NAME`. Raises ConfigurationError
    where SERVICE_SIGNING_KEYS is not set.
    """
    keys = parts_of(current_app).settings.signing_keys
    if not keys:
        raise ConfigurationError(
            "Links are signed by SERVICE_SIGNING_KEYS, which is not set. Set it to a secret of 16"
            " letters or more, such as `python -c 'import secrets; print(secrets.token_hex())'`"
            " prints, for all web processes alike."
        )
    text = _signer(keys).dumps([job_id, round(time.time() + seconds)])
    return url_for("service.results.show", job_id=job_id, t=text, _external=external)


def opened_by(links: Iterable[str], keys: Sequence[str]) -> frozenset[str]:
    """The ids of the jobs that links with these signatures let everybody see now."""
    found: set[str] = set()
    signer = _signer(keys)
    for text in [*links][:_MAX_LINKS]:
        try:
            job_id, until = signer.loads(text)
        except (BadData, ValueError, TypeError):
            continue
        if until > time.time():
            found.add(str(job_id))
    return frozenset(found)


def _signer(keys: Sequence[str]) -> URLSafeSerializer:
    """Signs by the first key, and believes all of them: so keys can be replaced one by one."""
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer([*reversed(keys)], salt=_SALT, signer_kwargs=options)
