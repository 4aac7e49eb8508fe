"""A package without tasks yet."""
