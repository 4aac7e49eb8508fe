"""Tests of real processes, by the room whose promise they hold; three are on the guides."""
