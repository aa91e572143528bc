"""Checks of an imported release: each takes a release and returns it with less, or more said."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from omni_msa.errors import MediaError
from omni_msa.files.importers.release import Release, Sample
from omni_msa.files.manifest import MAX_PROBLEMS_SHOWN
from omni_msa.media.identity import content_sha256
from omni_msa.media.probe import probe
from omni_msa.values import MediaFacts

LONG_SECONDS = 60.0  # an utterance that lasts longer is often cut wrongly

Progress = Callable[[int, int], None]  # clips opened so far, clips in all


def leave_out_known_bad(release: Release, known_bad: Mapping[str, str]) -> Release:
    """Without the clips that are known to be broken in the release, a notice for each."""
    kept = [sample for sample in release.samples if sample.name not in known_bad]
    names = [sample.name for sample in release.samples if sample.name in known_bad]
    return release.but(kept, [f"{name} is left out: {known_bad[name]}" for name in names])


def leave_out_missing(release: Release) -> Release:
    """Without the clips whose file is not there; one notice names them all."""
    kept = [sample for sample in release.samples if os.path.isfile(sample.path)]
    present = {sample.path for sample in kept}
    missing = [str(sample.path) for sample in release.samples if sample.path not in present]
    if not missing:
        return release
    return release.but(kept, [f"{len(missing)} files are missing, left out: {_some(missing)}"])


def leave_out_unreadable(release: Release, progress: Progress | None = None) -> Release:
    """Opens every file: without those in which nothing decodes, and with what else was noticed."""
    kept, damaged, odd, long = [], [], [], []
    for number, sample in enumerate(release.samples, start=1):
        try:
            facts = probe(sample.path)
        except MediaError as error:
            damaged.append(str(error))
        else:
            if facts.video is None and facts.audio is None:
                damaged.append(f"{sample.path}: has neither picture nor sound")
            else:
                kept.append(sample)
                odd += [f"{sample.name} ({'; '.join(facts.warnings)})"] if facts.warnings else []
                seconds = _duration_seconds(facts)
                long += [f"{sample.name} ({seconds:.0f} s)"] if seconds > LONG_SECONDS else []
        if progress is not None:
            progress(number, len(release.samples))
    notices = [f"unreadable, left out: {message}" for message in damaged[:MAX_PROBLEMS_SHOWN]]
    if len(damaged) > len(notices):
        notices.append(f"unreadable, left out: {len(damaged) - len(notices)} more")
    if odd:
        notices.append(f"{len(odd)} clips are not as they should be, but kept: {_some(odd)}")
    if long:
        notices.append(f"{len(long)} clips last over {LONG_SECONDS:.0f} s, but kept: {_some(long)}")
    return release.but(kept, notices)


def _duration_seconds(facts: MediaFacts) -> float:
    if facts.video is not None:
        return facts.video.end_seconds
    return facts.duration_from_header_seconds or 0.0


def tell_duplicates(release: Release) -> Release:
    """Says which files of different splits hold the same bytes: a test that was trained on."""
    by_size = defaultdict(list)
    for sample in release.samples:
        by_size[os.path.getsize(sample.path)].append(sample)
    by_content = defaultdict(list)
    for samples in by_size.values():
        if _num_splits(samples) > 1:  # only these can matter, and reading every file takes long
            for sample in samples:
                if digest := content_sha256(sample.path):
                    by_content[digest].append(sample)
    same = [
        " = ".join(f"{sample.name} ({sample.split})" for sample in samples)
        for samples in by_content.values()
        if _num_splits(samples) > 1
    ]
    if not same:
        return release
    return release.but(notices=[f"{len(same)} files occur in several splits: {_some(same)}"])


def _num_splits(samples: Sequence[Sample]) -> int:
    return len({sample.split for sample in samples})


def tell_speakers(release: Release) -> Release:
    """Says how many speakers occur in more than one split, with an example."""
    splits = defaultdict(set)
    for sample in release.samples:
        if sample.speaker is not None:
            splits[sample.speaker].add(sample.split)
    shared = [speaker for speaker in splits if len(splits[speaker]) > 1]
    if not shared:
        return release
    example = f"{shared[0]} in {', '.join(sorted(splits[shared[0]]))}"
    count = f"{len(shared)} of {len(splits)} speakers occur in more than one split"
    return release.but(notices=[f"{count}, for example {example}"])


def tell_split_sizes(release: Release, published: Mapping[str, int] | None) -> Release:
    """Says where the number of clips differs from the published one."""
    found = split_sizes(release)
    differing = [
        f"{split} {found.get(split, 0)} (published: {size})"
        for split, size in (published or {}).items()
        if found.get(split, 0) != size
    ]
    if not differing:
        return release
    return release.but(notices=[f"split sizes are not the published ones: {', '.join(differing)}"])


def split_sizes(release: Release) -> dict[str, int]:
    """Number of clips of each split."""
    return dict(Counter(sample.split for sample in release.samples))


def _some(names: Sequence[str]) -> str:
    """The names in one line; a long list is cut and counted."""
    shown = ", ".join(names[:MAX_PROBLEMS_SHOWN])
    left = len(names) - MAX_PROBLEMS_SHOWN
    return f"{shown} and {left} more" if left > 0 else shown
