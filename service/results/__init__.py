"""Reading what jobs made: the read side."""
