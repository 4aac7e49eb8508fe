"""Who hears of a job, and when."""

from quart import Quart

from service.signals import JobEvent, JobSignal, WorkerStatus, seconds_since_epoch

EVENT = JobEvent("1", "QUEUED", "a.task", 100.0)


def test_receivers_hear_of_jobs_of_their_app_while_they_are_connected() -> None:
    """The receivers that an app was found to have are looked for again when that changes."""
    signal, ours, other = JobSignal(), Quart("ours"), Quart("other")
    heard: list[str] = []

    def one(_app: Quart, event: JobEvent) -> None:
        heard.append(f"one {event.id}")

    def all_of_them(_app: Quart, event: JobEvent) -> None:
        heard.append(f"all {event.id}")

    signal.send_event(ours, EVENT)
    signal.connect(one, sender=ours)
    signal.send_event(ours, EVENT)
    signal.send_event(other, EVENT)
    assert heard == ["one 1"]
    signal.connect(all_of_them)
    signal.disconnect(one, sender=ours)
    signal.send_event(ours, EVENT)
    signal.send_event(other, EVENT)
    assert heard == ["one 1", "all 1", "all 1"]


def test_times_of_records_are_seconds_in_events() -> None:
    """Whatever is no time is not known."""
    assert seconds_since_epoch("1970-01-01T00:01:00+00:00") == 60
    assert seconds_since_epoch("soon") is None
    assert seconds_since_epoch(None) is None


def test_a_job_ran_from_its_start_to_its_end() -> None:
    """Clocks of two machines may differ by more than that."""
    assert JobEvent("1", "SUCCESS", "t", 9.0, started_at=5.0, finished_at=9.0).ran_for == 4
    assert JobEvent("1", "SUCCESS", "t", 9.0, started_at=9.5, finished_at=9.0).ran_for == 0
    assert JobEvent("1", "STARTED", "t", 9.0, started_at=5.0).ran_for is None
    assert WorkerStatus.__struct_encode_fields__[3] == "held", "as other versions write it"
