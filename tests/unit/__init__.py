"""Tests that start no server; `house` has the rules for the source, `seams` other libraries'."""
