"""Benchmarks: the reference method, ours and the floor, measured in one run. See benchmarks/README.md."""
