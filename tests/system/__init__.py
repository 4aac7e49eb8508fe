"""Tests of real processes, by the room whose promise they hold; two are on README's commands."""
