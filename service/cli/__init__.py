"""The `service` command."""
