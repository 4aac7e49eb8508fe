"""Declaring tasks and sending jobs: the write side."""
