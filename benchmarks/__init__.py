"""How fast the recipe is, part by part, as a share of what the machine can do.

    python -m benchmarks                       # everything at published sizes, on the CPU
    python -m benchmarks --device cuda         # the same on a GPU, in less than eight minutes
    python -m benchmarks --quick               # small sizes: does it run?

Data is made up, with the published shapes; what is timed is the recipe's own code. NOTES.md
keeps what was tried. The package is not installed: run it from the top folder.
"""
