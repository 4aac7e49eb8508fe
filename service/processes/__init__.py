"""Runs several worker processes as one, and tells a service manager how it is.

    parent.py          run_workers: keeps the processes alive, restarts them in turn, stops all
    kept_worker.py     one of them: started, and started again each time that it has ended
    cores.py           how many processors this process may use
    guardian.py        a process that ends the others if the one that started them is killed
    heartbeat.py       the file by whose age `service health` judges a worker
    notify.py          messages to a service manager, as systemd has one: sd_notify

The parent runs no job and imports no app: it costs little, and no fault of a task can end it. It is
the service manager of its processes, which tell it by sd_notify when they have started and that
their event loops turn. Threads: none.
"""

from service.processes.cores import usable_cores
from service.processes.parent import MB, WorkersPlan, run_workers

__all__ = ["MB", "WorkersPlan", "run_workers", "usable_cores"]
