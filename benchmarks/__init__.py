"""Benchmark the recipe part by part, as a share of the machine's peak performance.

    python -m benchmarks                       # everything at published sizes, on the CPU
    python -m benchmarks --device cuda         # the same on a GPU, in less than eight minutes
    python -m benchmarks --quick               # small sizes: does it run?

The data is synthetic, with the published shapes; the timed code is the recipe's own. docs/speed.md
records results and rejected ideas. The package is not installed: run it from the top folder.
"""
