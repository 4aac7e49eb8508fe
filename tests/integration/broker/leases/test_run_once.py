"""Kills workers at random, or restarts them, and counts which jobs have ended twice."""

import os
import random
import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.broker import POOLS, Bench, ready
from tests.support.process import Process, is_alive
from tests.support.wait import wait_until

_JOBS, _KILLS, _WORKERS = 12_000, 20, 2
_RESTARTED_JOBS, _RESTARTS, _RESTARTED_WORKERS = 360, 12, 3


@dataclass(frozen=True)
class Tally:
    """Jobs by their labels: `lost` ones have not ended well, `recovered` ones began twice."""

    lost: set[str]
    unexpected: set[str]
    twice: set[str]
    recovered: set[str]

    def __str__(self) -> str:
        """The four counts, by their usual names."""
        return (
            f"lost {len(self.lost)}, unexpected {len(self.unexpected)},"
            f" duplicated {len(self.twice)}, recovered {len(self.recovered)}"
        )


def _tally_when_ended(bench: Bench, labels: dict[str, str]) -> Tally:
    """Wait until every job, given by its label and id, has ended; count them by the notes."""
    unfinished = dict(labels)

    def all_ended() -> bool:
        for label, job in list(unfinished.items()):
            if bench.state(job) in {"SUCCESS", "FAILURE"}:
                del unfinished[label]
        return not unfinished

    wait_until(all_ended, timeout=180, description="every job has ended")
    bench.wait_until_empty(timeout=10 * bench.lease)
    begun = Counter(note[1] for note in bench.notes() if note[0] == "start")
    ended = Counter(note[1] for note in bench.notes() if note[0] == "end")
    lost = {
        label for label in labels if not ended[label] or bench.state(labels[label]) != "SUCCESS"
    }
    return Tally(
        lost=lost,
        unexpected=ended.keys() - labels.keys(),
        twice={label for label in ended if ended[label] > 1},
        recovered={label for label in begun if begun[label] > 1} - lost,
    )


def _show(bench: Bench, labels: dict[str, str], wrong: set[str], workers: list[Process]) -> None:
    """Print all that is known of some jobs."""
    for label in wrong:
        notes = [note for note in bench.notes() if note[1] == label]
        print(label, notes, bench.result(labels[label]))
        for worker in workers:
            lines = [line for line in worker.output.splitlines() if labels[label] in line]
            print(*(f"{worker.name}: {line}" for line in lines), sep="\n")


def _kill(worker: Process, bench: Bench, labels: dict[str, str]) -> set[str]:
    """Kill the worker; the jobs whose bodies it had ended without storing that."""
    os.killpg(worker.pid, signal.SIGSTOP)  # nobody can be asked for its group after its death
    pids = {path.name for path in Path("/proc").glob("[0-9]*")}
    mine = {pid for pid in pids if _group_of(pid) == worker.pid}
    worker.kill()
    # One that was writing a note goes on until that is written.
    wait_until(lambda: not any(is_alive(int(pid)) for pid in mine), description="all are dead")
    ended = {note[1] for note in bench.notes() if note[0] == "end" and note[2] in mine}
    return {label for label in ended if bench.state(labels[label]) != "SUCCESS"}


def _group_of(pid: str) -> int | None:
    try:
        return os.getpgid(int(pid))
    except ProcessLookupError:
        return None


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("pool", POOLS)
def test_what_was_stored_does_not_run_again(bench: Bench, pool: str) -> None:
    """A body can end twice only if its worker was killed before it had stored the end."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    bench.options["max_deliveries"] = 100  # its workers' deaths are not a job's own fault here
    # Else a busy machine keeps workers that live from renewing, and jobs run twice for that.
    bench.lease = bench.options["lease"] = 10.0
    labels: dict[str, str] = {}
    unstored: set[str] = set()

    born: list[Process] = []

    with ExitStack() as stack:

        def bear(number: int) -> Process:
            worker = bench.worker(
                f"w{number}", pool=pool, concurrency=20 if pool == "asyncio" else 4
            )
            born.append(stack.enter_context(worker))
            return worker

        workers = [bear(number) for number in range(_WORKERS)]
        for kill in range(_KILLS):
            ready(*workers)
            moment = chance.randrange(_JOBS // _KILLS)
            for number in range(_JOBS // _KILLS):
                task = chance.choice(["work", "work", "work_in_thread"])
                label = f"{kill}.{number}"
                labels[label] = bench.send(task, label, chance.choice([0, 0, 0.01, 0.1]))
                if number == moment:
                    victim = chance.randrange(_WORKERS)
                    unstored |= _kill(workers[victim], bench, labels)
                    workers[victim] = bear(_WORKERS + kill)
        tally = _tally_when_ended(bench, labels)
        print(
            f"{pool}, seed {seed}: {len(labels)} jobs, {_KILLS} kills: {tally};"
            f" {len(unstored)} were killed between the end of the body and its storing"
        )
        _show(bench, labels, (tally.twice - unstored) | tally.lost, born)
    assert tally.lost == set()
    assert tally.unexpected == set()
    assert tally.twice <= unstored


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_rolling_restart_runs_nothing_twice(bench: Bench) -> None:
    """Most bodies run in threads and outlive the grace: nothing can stop them but the end."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    bench.options["max_deliveries"] = 100  # those that last long go back again and again
    bench.lease = bench.options["lease"] = 10.0
    bench.extra["SERVICE_GRACE"] = "0.5"
    labels: dict[str, str] = {}
    born: list[Process] = []

    with ExitStack() as stack:

        def bear() -> Process:
            worker = bench.worker(f"w{len(born)}", pool="asyncio", concurrency=20)
            born.append(stack.enter_context(worker))
            return worker

        workers = [bear() for _ in range(_RESTARTED_WORKERS)]
        ready(*workers)
        for restart in range(_RESTARTS):
            for number in range(_RESTARTED_JOBS // _RESTARTS):
                task = chance.choice(["work_in_thread", "work_in_thread", "work"])
                label = f"{restart}.{number}"
                labels[label] = bench.send(task, label, chance.choice([0.1, 1, 3, 6, 9]))
            replaced, heir = workers.pop(0), bear()
            ready(heir)
            workers.append(heir)
            assert replaced.stop(signal.SIGTERM) == 0
        tally = _tally_when_ended(bench, labels)
        print(f"seed {seed}: {len(labels)} jobs, {_RESTARTS} restarts: {tally}")
        _show(bench, labels, tally.twice | tally.lost, born)
    assert tally.lost == set()
    assert tally.unexpected == set()
    assert tally.twice == set()
