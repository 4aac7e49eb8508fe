"""Runs the `service` command, also as `python -m service`.

`service health` is asked again and again, so that only what answers it is imported then.
"""

import sys
from importlib import import_module


def run_command() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] == ["health"]:
        sys.exit(import_module("service.cli.health").health(sys.argv[2:]))
    import_module("service.cli.main").main()


if __name__ == "__main__":
    run_command()
