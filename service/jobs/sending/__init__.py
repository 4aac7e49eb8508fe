"""The only code that publishes jobs."""
