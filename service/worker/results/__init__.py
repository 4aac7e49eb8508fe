"""Storing results in batches."""
