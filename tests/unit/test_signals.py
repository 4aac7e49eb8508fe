"""Who hears of a job, and when."""

from service.signals import JobEvent, Signals, WorkerStatus, seconds_since_epoch


def test_receivers_hear_of_jobs_of_their_app_while_they_are_connected() -> None:
    """Two apps in one process do not mix."""
    ours, other = Signals(), Signals()
    heard: list[str] = []

    def receiver(event: JobEvent) -> None:
        heard.append(event.id)

    ours.send_queued("unheard", "a.task")
    ours.job_changed.connect(receiver)
    ours.send_queued("1", "a.task")
    other.send_queued("2", "a.task")
    assert heard == ["1"]
    ours.job_changed.disconnect(receiver)
    ours.send_queued("3", "a.task")
    assert heard == ["1"]


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
