"""The modalities of a clip, and the subsets of them that are scored."""

from __future__ import annotations

from itertools import combinations

MODALITIES = ("text", "audio", "video")


LETTERS = {"text": "T", "audio": "A", "video": "V"}


Subset = frozenset[str]  # of MODALITIES; the empty one is "nothing shown"


def subset_name(subset: Subset) -> str:
    """`frozenset({"audio", "text"})` -> `"TA"`; the empty subset is `""`."""
    return "".join(LETTERS[m] for m in MODALITIES if m in subset)


def all_subsets(present: Subset) -> tuple[Subset, ...]:
    """Every subset of the modalities that a clip has, smallest first."""
    names = [m for m in MODALITIES if m in present]
    return tuple(frozenset(c) for n in range(len(names) + 1) for c in combinations(names, n))
