"""Who may do what: the one place that decides it.

policy.py     callers, the actions that are asked for, and what is allowed by default; pure
access.py     all that an app has of it: finds a request's caller, and asks the policy
operators.py  the admin token, as a bearer's or in a cookie
tokens.py     API tokens with scopes, kept as hashes in Redis
links.py      signed links, by which anybody sees one job for a while
audit.py      what operators did: logged, and kept in Redis

`Jobs(identify=…, allow=…)` takes the app's own: `identify(request)` gives the Caller of a request,
or None for somebody unknown, and `allow(caller, action, subject)` replaces `allow_by_default`.
Routes call `caller_of()` for the caller, `read_job(job_id, action)` or `follow_job` for one, and
`sight()` for several. A job that a caller may not see is answered as an unknown id is, and as soon:
only the beginning of its record is read, and `allow` is asked about unknown ids as well. It is not
asked about jobs that code enqueues: that is the app itself.
"""

from service.access.access import caller_of
from service.access.links import signed_link
from service.access.policy import Action, Caller, Subject, allow_by_default

__all__ = ["Action", "Caller", "Subject", "allow_by_default", "caller_of", "signed_link"]
