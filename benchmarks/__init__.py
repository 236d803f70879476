"""Side-by-side measurements: each one command, `python -m benchmarks.NAME`, its JSON on the last line."""
