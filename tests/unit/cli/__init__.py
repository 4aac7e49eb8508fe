"""Tests of the command line that start nothing."""
