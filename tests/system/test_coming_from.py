"""The guides for those who come from other queues: the program before and after, both run."""

import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT, Process
from tests.support.wait import wait_until
from tests.system.test_guides import program, result_of, running

FROM_CELERY = {
    "price": "tea: 2 EUR",
    "left": 3,
    "deliver": "delivered to Paris at attempt 3",
    "confirm": {"item": "TEA", "number": 2},
    "hurry": "hurried",
    "shout": "hello!",
    "named": "rice: 2 EUR",
    "chain": "tea: 2 EUR!",
    "chord": "['tea: 2 EUR', 'hello!']!",
}


def test_from_celery(tmp_path: Path, redis_url: str) -> None:
    """The same program on plain Celery, then in an app beside old workers, and back."""
    program("from-celery.md", "Before", tmp_path)
    program("from-celery.md", "After", tmp_path)
    notes = tmp_path / "notes"
    env = {
        "SHOP_REDIS": redis_url,
        "SHOP_NOTES": str(notes),
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "SERVICE_REDIS_URL": redis_url,
    }
    queues = ("-Q", "celery,reports", "--concurrency", "2", "--loglevel", "INFO")

    def celery(app: str, *command: str) -> Process:
        line = [sys.executable, "-m", "celery", "-A", app, *command]
        return Process(line, cwd=tmp_path, env=env, name=f"{app} {command[0]}")

    def sold() -> str:
        """What the program from before prints; Celery may grumble when the process ends."""
        line = [sys.executable, "-m", "shop.front"]
        with Process(line, cwd=tmp_path, env=env, name="front") as process:
            assert process.wait() == 0
            return process.output

    def noted(line: str) -> None:
        wait_until(
            lambda: notes.exists() and line in notes.read_text(),
            timeout=45,
            description=f"the note {line!r}",
        )

    before = "".join(f"{name} {value}\n" for name, value in FROM_CELERY.items())
    beat = ("beat", "--schedule", str(tmp_path / "schedule"))
    with celery("shop.celeryapp", "worker", *queues) as old:
        old.wait_for_output(r"ready\.")
        with celery("shop.celeryapp", *beat):
            assert sold().startswith(before)
            noted("counted by beat")
        noted("told tea: 2 EUR")

        # Over: the app's front sends to the old worker, then to both, then to ours alone.
        with running(tmp_path, redis_url, env=env, worker=queues) as client:
            for stop in (False, True):
                ids = {name: client.post(f"/start/{name}").json()["id"] for name in FROM_CELERY}
                ids["sell"] = client.post("/sell/tea").json()["id"]
                for name, value in {**FROM_CELERY, "sell": "tea: 2 EUR"}.items():
                    assert result_of(client, f"/jobs/result/{ids[name]}") == value
                if not stop:
                    assert old.stop() == 0
                    notes.unlink()
            noted("told tea: 2 EUR")
            welcomed = client.post("/welcome/Ada").json()
            assert result_of(client, f"/jobs/result/{welcomed['id']}") == "Hello, Ada"
            found = result_of(client, f"/jobs/result/{welcomed['reminder']}")
            assert found == "Hello again, Ada"
            with celery("worker_entry", *beat):
                noted("counted by beat")
            assert sold().startswith(before)  # a front that was not changed yet

    # And back.
    with celery("shop.celeryapp", "worker", *queues) as old:
        old.wait_for_output(r"ready\.")
        assert sold().startswith(before)


# arq needs an older redis-py than we do: it gets an environment of its own, for this test.
_ARQ = ("uv", "run", "--quiet", "--isolated", "--no-project", "--with", "arq>=0.26,<1", "python")
_LEFT = "left 3\n"
_AGAIN = "again None\ndeliver delivered to Paris at attempt 3\n"


_OTHERS = {
    "arq": (
        (*_ARQ, "-m", "arq", "shop.worker.WorkerSettings"),
        "later JobStatus.deferred 3\naborted True\n",
        "later 3\naborted True\n",
    ),
    "saq": (
        (sys.executable, "-m", "saq", "shop.worker.settings"),
        "all [3, 3]\naborted Status.ABORTED\n",
        "all [3, 3]\naborted True\n",
    ),
}


@pytest.mark.leaves("keys", reason="those of the other queue")
@pytest.mark.parametrize("other", _OTHERS)
def test_from_another_queue(other: str, tmp_path: Path, redis_url: str) -> None:
    """Both programs do the same, and say so in nearly the same words."""
    env = {"SHOP_REDIS": redis_url, "SERVICE_REDIS_URL": redis_url}
    old, new = tmp_path / "old", tmp_path / "new"
    program(f"from-{other}.md", "Before", old)
    program(f"from-{other}.md", "After", new)
    worker, before, after = _OTHERS[other]
    front_of_before = (*worker[:-2], "shop.front")

    def process(folder: Path, *command: str) -> Process:
        path = f"{folder}:{ROOT}" if folder is new else str(folder)
        return Process(command, cwd=folder, env={**env, "PYTHONPATH": path}, name=command[-1])

    with process(old, *worker) as running_worker:
        running_worker.wait_for_output("counted 1")
        with process(old, *front_of_before) as front:
            assert front.wait() == 0
            # SAQ says of the same job now this, now that.
            output = front.output.replace("Status.FAILED", "Status.ABORTED")
            assert output == _LEFT + _AGAIN + before
    celery = (sys.executable, "-m", "celery", "-A", "worker_entry")
    with (
        process(new, *celery, "worker", "--loglevel", "INFO") as running_worker,
        process(new, *celery, "beat", "--schedule", str(tmp_path / "schedule")),
        process(new, sys.executable, "-m", "shop.front") as front,
    ):
        assert front.wait() == 0
        assert front.output.endswith(_LEFT + _AGAIN.replace("None", "True") + after)
        running_worker.wait_for_output("counted 1")
