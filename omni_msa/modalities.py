"""The modalities of a clip, one row each, and the subsets of them that are scored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

Subset = frozenset[str]  # of modalities' names; the empty one is "nothing shown"


@dataclass(frozen=True)
class Modality:
    """What is known of a modality everywhere.

    `is_token` says whether the Thinker is shown it as tokens; if not, a method gets its features.
    """

    name: str
    letter: str  # in the names of subsets
    title: str  # for people
    is_token: bool = True


# In the order of subsets' names, columns and tables. All else follows from this table.
MODALITIES: dict[str, Modality] = {
    modality.name: modality
    for modality in (
        Modality("text", "T", "words"),
        Modality("audio", "A", "voice"),
        Modality("video", "V", "face"),
        Modality("ecg", "E", "heart", is_token=False),
    )
}


def tokens() -> Subset:
    """Those that the Thinker is shown."""
    return frozenset(name for name, row in MODALITIES.items() if row.is_token)


def others() -> Subset:
    """Those of which a method gets the features."""
    return frozenset(MODALITIES) - tokens()


def subset_name(subset: Subset) -> str:
    """`frozenset({"audio", "text"})` -> `"TA"`; the empty subset is `""`."""
    return "".join(row.letter for name, row in MODALITIES.items() if name in subset)


def in_order(names: Iterable[str]) -> list[str]:
    """Modalities in the order of the table."""
    return [name for name in MODALITIES if name in set(names)]


def all_subsets(present: Iterable[str]) -> tuple[Subset, ...]:
    """Every subset of the modalities that a clip has, smallest first."""
    names = in_order(present)
    return tuple(frozenset(c) for n in range(len(names) + 1) for c in combinations(names, n))
