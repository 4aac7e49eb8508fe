"""Benchmarks: each `bench_*` is a command that prints its figures; the rest are what they load."""
