"""Who holds a message, and what becomes of it."""
