"""The supervisor of `service dev` runs all of its processes or none; proven on real ones."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ROOT, Process, is_alive
from tests.support.wait import wait_until

STOP_WITHIN = 10.0

SLEEPER = "import os, time; print('pid', os.getpid()); time.sleep(600)"
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("grandchild", child.pid)
print("pid", os.getpid())
time.sleep(600)
"""
TALKER = "while True: print('x' * 1000)"


def python(name: str, script: str, **fields: Any) -> dict[str, Any]:
    """A command that runs the script."""
    return {"name": name, "argv": [sys.executable, "-c", script], **fields}


def supervisor(*stages: list[dict[str, Any]], **folders: Path) -> Process:
    """The supervisor on these commands, not yet started."""
    return Process(argv(*stages, **folders), name="supervisor")


def argv(*stages: list[dict[str, Any]], **folders: Path) -> list[str]:
    """The command line of the supervisor on these commands, with folders `temporary`, `watched`."""
    paths = [str(folders.get(name, "")) for name in ("temporary", "watched")]
    return [sys.executable, "-m", "tests.support.supervise", json.dumps(stages), *paths]


def pid_of(process: Process, name: str, word: str = "pid") -> int:
    """The process id that a child has logged."""
    return int(process.wait_for_output(rf"^{name} *\| {word} (\d+)$")[1])


def wait_until_gone(*pids: int, timeout: float = 30) -> None:
    """None of the processes is left."""
    wait_until(
        lambda: not any(is_alive(pid) for pid in pids),
        timeout=timeout,
        description=f"processes {pids} are gone",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(number: signal.Signals) -> None:
    """Ctrl-C, `kill` and a closed terminal all end with nothing left and no error."""
    with supervisor([python("a", SLEEPER)], [python("long", SLEEPER)]) as process:
        pids = [pid_of(process, "a"), pid_of(process, "long")]
        process.wait_for_output("^all ready$")

        assert process.stop(number) == 0

        assert not any(is_alive(pid) for pid in pids)
        assert process.output.startswith("opening\n")


def test_a_process_that_ignores_sigterm_is_ended_within_ten_seconds() -> None:
    """A stuck job must not keep the terminal, nor may its pool outlive it.

    Ten seconds, and as much longer as the machine is slow: to start takes half of one.
    """
    began = time.monotonic()
    with supervisor([python("stub", STUBBORN), python("a", SLEEPER)]) as process:
        pids = [
            pid_of(process, "stub"),
            pid_of(process, "stub", "grandchild"),
            pid_of(process, "a"),
        ]

        to_start = time.monotonic() - began
        assert process.stop(signal.SIGTERM, timeout=STOP_WITHIN + 2 * to_start) == 0

        wait_until_gone(*pids)


def test_a_signal_sent_twice_at_once_counts_once_and_later_again_ends_by_force() -> None:
    """`timeout` sends twice in a row, a person presses Ctrl-C again out of impatience."""
    with supervisor([python("stub", STUBBORN, stop_timeout=50)]) as process:
        pids = [pid_of(process, "stub"), pid_of(process, "stub", "grandchild")]
        process.send_signal(signal.SIGINT)
        process.wait_for_output("^Stopping")
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        wait_until(lambda: time.monotonic() > asked + 1.5, description="one request is over")
        assert process.returncode is None

        assert process.stop(signal.SIGINT) == 0

        wait_until_gone(*pids)


@pytest.mark.parametrize(
    ("ending", "how"),
    [
        ("exit(3)", "exited with code 3"),
        ("exit(0)", "exited with code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
    ],
)
def test_one_that_ends_stops_the_rest_and_is_named(ending: str, how: str, tmp_path: Path) -> None:
    """Half a service that looks alive is worse than none."""
    go = tmp_path / "go"
    script = f"""
import os, signal, time
while not os.path.exists({str(go)!r}): time.sleep(0.01)
print('my last words', flush=True)
{ending}
"""
    with supervisor([python("a", SLEEPER)], [python("dying", script)]) as process:
        sleeper = pid_of(process, "a")
        go.touch()

        assert process.wait() == 1

        assert not is_alive(sleeper)
        assert "dying | my last words" in process.output
        assert f"reason: dying {how}, so everything was stopped." in process.output


def test_a_program_that_does_not_exist_stops_the_rest() -> None:
    """The reason is told in words."""
    missing = {"name": "missing", "argv": ["/no/such/program"]}
    with supervisor([python("a", SLEEPER)], [missing]) as process:
        assert process.wait() == 1
        assert "reason: missing cannot be started: " in process.output
        assert "Traceback" not in process.output


@pytest.mark.parametrize("code", ["print('new'); time.sleep(600)", "the next one: no Python"])
def test_what_reloads_is_started_anew_after_a_change(tmp_path: Path, code: str) -> None:
    """The rest stays; one that cannot run waits for the next change, and stops nothing."""
    program = tmp_path / "program.py"
    program.write_text(f"import time; {SLEEPER}")
    reloading = {"name": "web", "argv": [sys.executable, str(program)], "reloads": True}
    with supervisor([python("a", SLEEPER)], [reloading], watched=tmp_path) as process:
        pids = [pid_of(process, "a"), pid_of(process, "web")]
        process.wait_for_output("^all ready$")

        (tmp_path / "notes.txt").write_text("this is no code")
        program.write_text(f"import time\n{code}")
        process.wait_for_output(r"^program\.py changed; starting web anew\.$")
        if "new" in code:
            process.wait_for_output(r"^web *\| new$")
        else:
            process.wait_for_output(r"^web *\| SyntaxError")
            process.wait_for_output(
                "^web exited with code 1; it starts again after the next change of code"
            )
        assert not is_alive(pids[1])
        program.write_text("import time; print('newest of all'); time.sleep(600)")
        process.wait_for_output(r"^web *\| newest of all$")

        assert is_alive(pids[0])
        assert "notes.txt" not in process.output
        assert process.stop() == 0
        assert not is_alive(pids[0])


def test_a_killed_supervisor_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL and the out-of-memory killer give it no time; its guardian has that time."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with supervisor(
        [python("stub", STUBBORN), python("a", SLEEPER)], temporary=temporary
    ) as process:
        pids = [
            pid_of(process, "stub"),
            pid_of(process, "stub", "grandchild"),
            pid_of(process, "a"),
        ]
        process.wait_for_output("^all ready$")  # a process may run before its guardian knows it

        os.kill(process.pid, signal.SIGKILL)

        wait_until_gone(*pids, timeout=60)
        wait_until(lambda: not temporary.exists(), description="the temporary folder is gone")


def test_a_reader_who_stalls_does_not_stop_it_from_stopping() -> None:
    """`service dev | less` with a paused pager must still end on SIGTERM."""
    command = argv([python("talker", TALKER)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs; from here on nobody reads

        process.terminate()

        assert process.wait() == 0


def test_a_reader_who_leaves_ends_it() -> None:
    """`service dev | head` should not go on in the dark."""
    command = argv([python("talker", TALKER)])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.wait() == 1
        assert b"reason: The log cannot be written: Broken pipe." in process.stderr.read()


def test_processes_get_the_environment_and_unbuffered_output() -> None:
    """A line that waits in a buffer is of no use to someone who watches the log."""
    script = "import os, time; print(os.environ['MARK']); time.sleep(600)"
    mark = uuid.uuid4().hex
    with supervisor([python("a", script, env={"MARK": mark})]) as process:
        process.wait_for_output(rf"^a \| {mark}$", timeout=30)
        process.stop()
