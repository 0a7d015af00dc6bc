"""Benchmarks: each script's docstring says what it measures; README.md, what came out."""
