"""Passes the question where a job is from prefork's parent to the child that runs the job.

A child hears nothing from Celery while it runs a job, so a thread of its own waits for questions.
"""

import json
import socket
import threading
from typing import Any, Final

from billiard import current_process
from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool as PreforkPool

from service.worker.pool.stacks.answer import find_in_threads, tell

_HEARD: Final = 0.5  # seconds for a child to say that it has heard a question
_LONGEST: Final = 65_536  # bytes of a question


class ChildQuestionsStep(bootsteps.Step):
    """Has a pair of sockets for each child, opened before the first one is forked.

    Celery numbers its children from 0: one that takes the place of another has the same sockets.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._app = worker.app
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._asking = threading.Lock()

    def include_if(self, worker: Any) -> bool:
        """Whether there are children, and anybody can ask their parent."""
        is_prefork = issubclass(worker.pool_cls, PreforkPool)
        return is_prefork and bool(worker.app.conf.worker_enable_remote_control)

    def create(self, worker: Any) -> None:
        """Open the sockets, and have each child listen. None is forked before the pool starts."""
        worker.child_questions = self
        for _ in range(worker.max_concurrency or worker.min_concurrency):
            self._pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        signals.worker_process_init.connect(self._listen, weak=False)

    def ask(self, pool: Any, pid: int, job_id: str, question: str) -> bool:
        """Have the child with this process id tell where its job is; False if it does not hear."""
        children = pool._pool._pool  # noqa: SLF001  their only names
        index = next((child.index for child in children if child.pid == pid), None)
        if index is None or index >= len(self._pairs):  # added while the worker ran
            return False
        ours, _ = self._pairs[index]
        with self._asking:
            ours.settimeout(_HEARD)
            try:
                ours.send(json.dumps((job_id, question)).encode())
                while ours.recv(_LONGEST).decode() != question:
                    pass  # an earlier question was heard late
            except TimeoutError:
                return False
        return True

    def _listen(self, **_: Any) -> None:
        child: Any = current_process()
        if child.index < len(self._pairs):
            _, theirs = self._pairs[child.index]
            threading.Thread(
                target=self._hear, args=(theirs,), name="stack-questions", daemon=True
            ).start()

    def _hear(self, theirs: socket.socket) -> None:
        while True:
            job_id, question = json.loads(theirs.recv(_LONGEST))
            theirs.send(question.encode())
            tell(self._app, job_id, question, find_in_threads)
