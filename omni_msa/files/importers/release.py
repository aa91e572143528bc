"""The types of an importer: a data set's facts, and the samples read from its release."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omni_msa.errors import ManifestError

Progress = Callable[[int, int], None]  # clips that are done, clips in all

FAMILIES = ("mosi", "sims", "meld", "emotion", "findings")


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set before a file of it is opened.

    Attributes:
        name: Its name in commands and manifests.
        title: Its authors' name for it.
        label_range: Lowest and highest label; of findings, places in their list.
        family: Which metrics are usual: "mosi", "sims", "meld" (of numbers), "emotion" (classes) or
            "findings" (any number of them at once).
        split_sizes: Published number of clips of train, valid and test; None without such splits.
        known_bad: Clips that are broken in the release itself, and why; they are left out.
        classes: Its emotions, in the usual order.
        findings: What its heart records may show, in the usual order.
        remarks: What a user should know of every import.
        variants: Other ways to read the release, by name, and what they do.
    """

    name: str
    title: str
    label_range: tuple[float, float]
    family: str
    split_sizes: dict[str, int] | None = field(default=None, hash=False)
    known_bad: dict[str, str] = field(default_factory=dict, hash=False)
    classes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    variants: dict[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is one of {', '.join(FAMILIES)}, got {self.family!r}")


@dataclass(frozen=True)
class Sample:
    """One labelled clip of a release; its file may turn out to be missing or damaged.

    `name` is unique in the release ("VIDEO/CLIP", "train/dia0_utt0"), and what `known_bad` and
    notices call it. `video` names the recording that it was cut from, where that is known;
    `context` holds what was said before it in the same dialogue, the last turn last. A heart record
    has `findings` in place of a label, and its `speaker` is the patient.
    """

    name: str
    path: Path
    split: str
    label: float | None = None
    text: str | None = None
    subset_labels: dict[str, float] = field(default_factory=dict, hash=False)
    speaker: str | None = None
    video: str | None = None
    emotion: str | None = None
    context: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """The samples of a release and what the user should know of them, one line each.

    A check takes one and returns another, with fewer samples or more notices.
    """

    samples: tuple[Sample, ...]
    notices: tuple[str, ...] = ()

    def revise(
        self, samples: Sequence[Sample] | None = None, notices: Sequence[str] = ()
    ) -> Release:
        """The same release with only these samples (None: all of them), and more notices."""
        new_samples = self.samples if samples is None else tuple(samples)
        return Release(new_samples, (*self.notices, *notices))


@dataclass(frozen=True)
class Dataset:
    """A data set that can be imported: its facts, and the function that reads its layout, in one of
    its `variants` or (None) as usual.

    `read_features` reads a pickle of features, where the data set is known in that form: it writes
    a feature file a sample into a folder.
    """

    facts: DatasetFacts
    read: Callable[[Path, DatasetFacts, str | None], Release]
    read_features: Callable[[Path, DatasetFacts, Path, Progress | None], Release] | None = None


def layout_error(
    folder: Path, facts: DatasetFacts, parts_present: Mapping[str, bool]
) -> ManifestError:
    """The error for a folder in another layout; `parts_present` maps each part to whether it is."""
    parts = [
        f"{part} ({'found' if is_present else 'not found'})"
        for part, is_present in parts_present.items()
    ]
    return ManifestError(
        f"{folder}: is not laid out as {facts.title} is released; looked for {', '.join(parts)}; "
        "give the folder that holds them"
    )
