"""Checks of an imported release: each returns it with fewer samples, or with more notices."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from omni_msa.errors import MediaError
from omni_msa.files.importers.release import Progress, Release
from omni_msa.files.leaks import shared_clips, shared_clips_line
from omni_msa.files.manifest import MAX_PROBLEMS_SHOWN
from omni_msa.media.container import enough_memory
from omni_msa.media.ecg import files_of
from omni_msa.media.probe import probe
from omni_msa.media.record_files import check_file, is_record
from omni_msa.values import Clip, MediaFacts

LONG_SECONDS = 60.0  # an utterance that lasts longer is often cut wrongly


def leave_out_known_bad(release: Release, known_bad: Mapping[str, str]) -> Release:
    """Without the clips that are known to be broken in the release, a notice for each."""
    samples = [sample for sample in release.samples if sample.name not in known_bad]
    names = [sample.name for sample in release.samples if sample.name in known_bad]
    return release.revise(samples, [f"{name} is left out: {known_bad[name]}" for name in names])


def leave_out_missing(release: Release) -> Release:
    """Without the clips whose file is not there; one notice names them all."""
    samples = [sample for sample in release.samples if os.path.isfile(sample.path)]
    present = {sample.path for sample in samples}
    missing_paths = [str(sample.path) for sample in release.samples if sample.path not in present]
    if not missing_paths:
        return release
    return release.revise(
        samples, [f"{len(missing_paths)} files are missing, left out: {_some(missing_paths)}"]
    )


def leave_out_unreadable(release: Release, progress: Progress | None = None) -> Release:
    """Opens every file: without those in which nothing decodes; notices of other oddities.

    Of WFDB records, header and sizes alone are looked at: reading 21,000 whole takes ten minutes.
    """
    samples, error_messages, clips_with_warnings, long_clips = [], [], [], []
    for number, sample in enumerate(release.samples, start=1):
        try:
            with enough_memory(sample.path):
                facts = _facts(sample.path)
        except MediaError as error:
            error_messages.append(str(error))
        else:
            if facts is None:
                samples.append(sample)
            elif facts.video is None and facts.audio is None:
                error_messages.append(f"{sample.path}: has neither picture nor sound")
            else:
                samples.append(sample)
                clips_with_warnings += (
                    [f"{sample.name} ({'; '.join(facts.warnings)})"] if facts.warnings else []
                )
                seconds = _duration_seconds(facts)
                long_clips += [f"{sample.name} ({seconds:.0f} s)"] if seconds > LONG_SECONDS else []
        if progress is not None:
            progress(number, len(release.samples))
    notices = [
        f"unreadable, left out: {message}" for message in error_messages[:MAX_PROBLEMS_SHOWN]
    ]
    if len(error_messages) > len(notices):
        notices.append(f"unreadable, left out: {len(error_messages) - len(notices)} more")
    if clips_with_warnings:
        notices.append(
            f"{len(clips_with_warnings)} clips are not as they should be, but kept: "
            f"{_some(clips_with_warnings)}"
        )
    if long_clips:
        notices.append(
            f"{len(long_clips)} clips last over {LONG_SECONDS:.0f} s, but kept: {_some(long_clips)}"
        )
    return release.revise(samples, notices)


def _facts(path: Path) -> MediaFacts | None:
    """What a file holds; None of a heart record that can be read."""
    if not is_record(path):
        return probe(path)
    check_file(path)
    return None


def _duration_seconds(facts: MediaFacts) -> float:
    if facts.video is not None:
        return facts.video.end_seconds
    return facts.duration_from_header_seconds or 0.0


def report_duplicates(release: Release) -> Release:
    """Adds a notice of clips in several splits with the same bytes: test clips seen in training."""
    # of a WFDB record, the samples: headers always differ
    clips = [Clip(path=files_of(s.path)[-1], id=s.name, split=s.split) for s in release.samples]
    pairs = shared_clips(clips)
    return release.revise(notices=[shared_clips_line(pairs)] if pairs else [])


def report_speakers(release: Release) -> Release:
    """Adds a notice of how many speakers occur in more than one split, with an example; or that the
    release does not say who speaks."""
    if all(sample.speaker is None for sample in release.samples):
        return release.revise(notices=["speakers: not known, so they may be in several splits"])
    splits = defaultdict(set)
    for sample in release.samples:
        if sample.speaker is not None:
            splits[sample.speaker].add(sample.split)
    speakers = [speaker for speaker in splits if len(splits[speaker]) > 1]
    if not speakers:
        return release
    example = f"{speakers[0]} in {', '.join(sorted(splits[speakers[0]]))}"
    count = f"{len(speakers)} of {len(splits)} speakers occur in more than one split"
    return release.revise(notices=[f"{count}, for example {example}"])


def report_split_sizes(release: Release, published_sizes: Mapping[str, int] | None) -> Release:
    """Adds a notice of splits whose number of clips differs from the published one."""
    sizes = split_sizes(release)
    differences = [
        f"{split} {sizes.get(split, 0)} (published: {size})"
        for split, size in (published_sizes or {}).items()
        if sizes.get(split, 0) != size
    ]
    if not differences:
        return release
    return release.revise(
        notices=[f"split sizes are not the published ones: {', '.join(differences)}"]
    )


def split_sizes(release: Release) -> dict[str, int]:
    """Number of clips of each split."""
    return dict(Counter(sample.split for sample in release.samples))


def _some(names: Sequence[str]) -> str:
    """The names in one line; a long list is cut and counted."""
    listing = ", ".join(names[:MAX_PROBLEMS_SHOWN])
    num_more = len(names) - MAX_PROBLEMS_SHOWN
    return f"{listing} and {num_more} more" if num_more > 0 else listing
