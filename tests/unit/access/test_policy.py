"""What callers may do where an app has no policy of its own."""

import pytest

from service import Action, Caller, Subject, TaskBlueprint, allow_by_default
from service.errors import ConfigurationError

ADA, BOB = Caller("ada"), Caller("bob")
VIEWER, OPERATOR, ADMIN = (Caller(role, {role}) for role in ("viewer", "operator", "admin"))
OWNED = Subject(task="mail.send", job_id="one", owner="ada")
OPEN = Subject(task="mail.send", job_id="one", is_open=True)
CLOSED = Subject(task="mail.send", job_id="one")
_OF_JOBS = [
    *(Action.SEE, Action.SEE_ARGUMENTS, Action.SEE_OUTPUT),
    *(Action.CANCEL, Action.RUN_AGAIN),
]


@pytest.mark.parametrize("action", _OF_JOBS)
def test_a_job_with_an_owner_is_the_owners_and_an_administrators(action: Action) -> None:
    """Operators see the dashboard, not what is in a job."""
    callers = (None, ADA, BOB, VIEWER, OPERATOR, ADMIN)
    assert [c for c in callers if allow_by_default(c, action, OWNED)] == [ADA, ADMIN]
    assert [c for c in callers if allow_by_default(c, action, CLOSED)] == [ADMIN]
    assert all(allow_by_default(c, action, OPEN) for c in callers)


def test_roles_are_for_the_dashboard() -> None:
    """Each may what the one before may."""
    callers = (None, ADA, VIEWER, OPERATOR, ADMIN)
    for action, allowed in (
        (Action.WATCH, [VIEWER, OPERATOR, ADMIN]),
        (Action.OPERATE, [OPERATOR, ADMIN]),
        (Action.ADMINISTER, [ADMIN]),
    ):
        assert [c for c in callers if allow_by_default(c, action, Subject())] == allowed


def test_a_caller_has_an_id_and_roles() -> None:
    """An id that is empty would be no owner."""
    for wrong in ("", "x" * 256):
        with pytest.raises(ValueError, match="1 to 255"):
            Caller(wrong)
    with pytest.raises(TypeError, match="several"):
        Caller("ada", "admin")  # type: ignore[arg-type]  # the mistake
    assert hash(Caller("ada", {"admin"})) == hash(Caller("ada", {"admin"}))


def test_a_task_says_in_one_way_who_may_start_it() -> None:
    """Of two, the wider would win by surprise."""
    with pytest.raises(ConfigurationError, match="anyone"):
        TaskBlueprint("mail").task(public=True, allow="staff")
