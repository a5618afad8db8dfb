"""How long each part of the recipe takes, as a share of what the machine could do.

    python -m benchmarks                                  # everything, at published sizes
    python -m benchmarks --device cuda --precision bf16
    python -m benchmarks --quick --only step scoring      # small sizes, some groups
    python -m benchmarks --compare before.json            # ratios to an earlier run
    python -m benchmarks --confirm                        # with a real training beside it

Data are generated; nothing is downloaded. NOTES.md keeps what was tried and measured.
"""
