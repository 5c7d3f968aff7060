"""Timings against one forward pass, and against others: `python -m benchmarks` (`make bench`)."""
