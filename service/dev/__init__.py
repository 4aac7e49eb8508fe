"""`service dev`: a private Valkey, a worker and a web process in one command."""

from service.dev.address import Address, parse_address
from service.dev.server import run_dev

__all__ = ["Address", "parse_address", "run_dev"]
