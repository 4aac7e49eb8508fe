"""Messages that were given up on."""
