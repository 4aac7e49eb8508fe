"""The ground floor: all that knows redis-py."""
