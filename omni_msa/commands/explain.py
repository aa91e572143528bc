"""The command `explain`."""

from __future__ import annotations


def explain() -> None:
    """Say what the numbers mean: ranges, contributions, doubt, languages, limits."""
    from omni_msa.display.explain import print_explanation

    print_explanation()
