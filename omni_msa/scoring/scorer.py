"""A clip in, a score and its ablation out, in one forward pass.

Scorer.score -> read_clip -> Scorer.prepare (inputs) -> Method.read (Thinker.forward) -> Record
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from omni_msa.errors import ConfigError, MediaError, ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.media import read_clip
from omni_msa.media.identity import json_sha256
from omni_msa.methods import METHODS, Reading, make_method, method_named
from omni_msa.modalities import MODALITIES, Subset, in_order, subset_name
from omni_msa.model.identity import base_sha256
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.loading import TINY, load_thinker, local_folder
from omni_msa.model.thinker import Thinker
from omni_msa.options import (
    PROMPT_VERSION,
    AblationOptions,
    MediaOptions,
    ModelOptions,
)
from omni_msa.scoring.ablation import subsets_to_score, summarise
from omni_msa.scoring.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    media_options,
    read_info,
)
from omni_msa.values import Ablation, Clip, ClipContent, Record, Transcript

ZERO_SHOT = "verbalizer"  # how a base without a checkpoint is read


@dataclass(frozen=True)
class Prepared:
    """A clip that was read and turned into tensors; only the forward pass is missing."""

    content: ClipContent
    inputs: ThinkerInputs
    input_seconds: float

    @property
    def pattern(self) -> str:
        """Which modalities are shown: clips of one pattern are batched together."""
        return subset_name(self.inputs.present)

    @property
    def num_tokens(self) -> int:
        return self.inputs.num_tokens["total"]


class Scorer:
    """A Thinker with its checkpoint and the question that its method asks.

    Make it with `Scorer.load()`.
    """

    def __init__(self, thinker: Thinker, checkpoint: Checkpoint, media: MediaOptions) -> None:
        self.thinker = thinker
        self.checkpoint = checkpoint
        self.media = media
        self.method = checkpoint.method
        self.label_space = checkpoint.info.label_space
        self.untrained: Subset = frozenset(checkpoint.info.hide)  # it was trained without these
        self.hidden = self.untrained | (frozenset(MODALITIES) - self.method.modalities())
        self.builder = thinker.builder(self.method.question())

    @classmethod
    def load(
        cls,
        model: ModelOptions | None = None,
        media: dict[str, Any] | None = None,
        beside: Scorer | None = None,
    ) -> Scorer:
        """Loads a base and its checkpoint; with no options, the embedded `tiny`.

        Args:
            model: which model, and how it is held in memory.
            media: choices that replace the checkpoint's own ways of reading clips.
            beside: a scorer whose base is shared, if it is the same: it is in memory once.

        Raises:
            ModelError: the base or the checkpoint cannot be loaded.
            ConfigError: the options do not fit together.
        """
        options = model or ModelOptions()
        folder = _checkpoint_folder(options)
        loaded = beside.thinker if beside is not None else None
        if folder is None:
            return cls._zero_shot(options, media, loaded)
        info = read_info(folder)
        _check_replaces(options.readout, info.method)
        chosen = media_options(info, media)
        if options.model is None:
            _check_base(folder, info.base)
        quantize = info.quantize if options.quantize == "auto" else options.quantize
        thinker = load_thinker(options.model or info.base, quantize, options.device, loaded)
        return cls(thinker, load_checkpoint(folder, thinker, options.readout), chosen)

    @classmethod
    def _zero_shot(
        cls, options: ModelOptions, media: dict[str, Any] | None, loaded: Thinker | None
    ) -> Scorer:
        """A bare base, read by a method that has no weights."""
        thinker = load_thinker(options.model or "tiny", options.quantize, options.device, loaded)
        space = LabelSpace(*options.label_range) if options.label_range else LabelSpace()
        info = CheckpointInfo(
            base=thinker.base.lasting_name,
            base_sha256=base_sha256(thinker.base.folder),
            method=options.readout or ZERO_SHOT,
            label_space=LabelSpace.of_classes(options.classes) if options.classes else space,
            media=MediaOptions().to_json(),
        )
        method = make_method(info.method, thinker, info.label_space).eval()
        return cls(thinker, Checkpoint(None, info, method), media_options(info, media))

    @property
    def notice(self) -> str | None:
        """What the user should see before the first score, or None."""
        own = self.checkpoint.info.notice
        return "; ".join(([own] if own else []) + list(self.remarks)) or None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What every record says of the way it was scored."""
        info, how = self.checkpoint.info, self.thinker.base.quantize
        if self.checkpoint.folder is None:
            return (f"zero-shot: no checkpoint, {self.thinker.base.name} is read by {self.name}",)
        remarks = []
        if self.untrained:
            names = " and ".join(in_order(self.untrained))
            remarks.append(f"the checkpoint was trained without {names}, and is not shown it")
        if how != info.quantize:
            remarks.append(f"trained with quantize {info.quantize}, scored with {how}")
        return tuple(remarks)

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    def describe(self) -> dict[str, Any]:
        """The `model` object of a record, without its fingerprint."""
        base, folder = self.thinker.base, self.checkpoint.folder
        embedded = folder is not None and folder.parent == TINY
        return {
            "base": base.name,
            "checkpoint": "tiny" if embedded else str(folder) if folder is not None else None,
            "readout": self.name,
            "quantize": base.quantize,
        }

    def fingerprint(self, ablation: AblationOptions, hide: Subset = frozenset()) -> str:
        """Hash of everything but the clip that changes a row: rows of one file share it."""
        info = self.checkpoint.info
        parts = {
            "base": info.base_sha256,
            "adapter": info.adapter_sha256,
            "readout": [self.name, info.readout_sha256, info.label_space.to_json()],
            "quantize": self.thinker.base.quantize,
            "media": self.media.to_json(),
            "prompt": PROMPT_VERSION,
            "ablation": [ablation.enabled, sorted(ablation.drop)],
            "hide": sorted(hide | self.hidden),
        }
        return json_sha256(parts)[:16]

    @torch.inference_mode()
    def score(
        self,
        clip: Clip | str | Path,
        ablation: AblationOptions | None = None,
        hide: Subset = frozenset(),
    ) -> Record:
        """Scores one clip; by default with every subset of its modalities.

        Args:
            clip: a path, or a `Clip` with a transcript or a time window.
            ablation: which subsets are scored in the same pass.
            hide: modalities that the model is not shown at all.

        Raises:
            MediaError: the clip cannot be read or has nothing to score.
            TranscriptError: its transcript file cannot be read.
        """
        if not isinstance(clip, Clip):
            clip = Clip(path=Path(clip))
        ablation = ablation or AblationOptions()
        content = read_clip(clip, self.media, hide=hide | self.hidden)
        prepared = [self.prepare(content, hide)]
        subsets = _subsets(prepared, ablation)
        start = time.perf_counter()
        reading = self.method.read(self.thinker, [prepared[0].inputs], subsets)
        seconds = time.perf_counter() - start
        return self._records(prepared, subsets, reading, seconds, ablation, hide)[0]

    def prepare(self, content: ClipContent, hide: Subset = frozenset()) -> Prepared:
        """The CPU work before the forward pass: tokens, positions, patches, log-mel."""
        start = time.perf_counter()
        inputs = self.builder.build(content, self.media, hide | self.hidden)
        return Prepared(content, inputs, time.perf_counter() - start)

    @torch.inference_mode()
    def score_prepared(
        self,
        prepared: Sequence[Prepared],
        ablation: AblationOptions,
        hide: Subset = frozenset(),
    ) -> list[Record]:
        """One forward pass of the language model over all clips and all their subsets."""
        subsets = _subsets(prepared, ablation)
        start = time.perf_counter()
        reading = self.method.read(self.thinker, [p.inputs for p in prepared], subsets)
        seconds = (time.perf_counter() - start) / len(prepared)
        return self._records(prepared, subsets, reading, seconds, ablation, hide)

    def _records(
        self,
        prepared: Sequence[Prepared],
        subsets: Sequence[tuple[Subset, ...]],
        reading: Reading,
        seconds: float,
        ablation: AblationOptions,
        hide: Subset,
    ) -> list[Record]:
        """A record each clip; `seconds` is its share of the forward pass."""
        rows = [row[: len(k)] for row, k in zip(reading.scores.tolist(), subsets, strict=True)]
        for item, row in zip(prepared, rows, strict=True):
            if not all(map(isfinite, row)):
                raise ModelError(
                    f"{item.content.clip.name}: the model gave no number (NaN); its weights or the "
                    "precision do not fit (try --quantize none)"
                )
        fingerprint = self.fingerprint(ablation, hide)
        records = [
            self._record(p, dict(zip(k, row, strict=True)), ablation, seconds, fingerprint, hide)
            for p, k, row in zip(prepared, subsets, rows, strict=True)
        ]
        if reading.answers is None:
            return records
        whole_clips = [row[len(k) - 1] for row, k in zip(reading.answers, subsets, strict=True)]
        return [
            replace(record, answer=answer)
            for record, answer in zip(records, whole_clips, strict=True)
        ]

    def _record(
        self,
        prepared: Prepared,
        scores: dict[Subset, float],
        ablation: AblationOptions,
        forward_seconds: float,
        fingerprint: str,
        hide: Subset,
    ) -> Record:
        content, inputs = prepared.content, prepared.inputs
        shown, classes = inputs.present, self.label_space.classes
        seconds = {
            "decode": round(content.decode_seconds, 4),
            "inputs": round(prepared.input_seconds, 4),
            "forward": round(forward_seconds, 4),
        }
        # what the checkpoint is never shown is said by its own remark
        dropped = tuple(f"{m} dropped on request" for m in MODALITIES if m in hide - self.hidden)
        words = content.parts["text"] if "text" in shown else None
        return Record.of(
            content.clip,
            content.sha256,
            scores[shown],
            text=words.text if isinstance(words, Transcript) else None,
            range=self.label_space.range,
            modalities={m: content.parts[m].source if m in shown else None for m in MODALITIES},
            ablation=self._ablation(scores, shown, ablation) if ablation.enabled else None,
            media=content.media,
            tokens=inputs.num_tokens,
            seconds=seconds,
            model=self.describe() | {"fingerprint": fingerprint},
            warnings=content.warnings + inputs.warnings + dropped + self.remarks,
            emotion=classes[round(scores[shown])] if classes else None,
        )

    def _ablation(
        self, scores: dict[Subset, float], shown: Subset, options: AblationOptions
    ) -> Ablation:
        """What each subset gives; numbers of classes have no differences."""
        if self.label_space.classes:
            return Ablation({subset_name(s): score for s, score in scores.items()})
        return summarise(scores, shown, options)


def _subsets(prepared: Sequence[Prepared], ablation: AblationOptions) -> list[tuple[Subset, ...]]:
    """What is scored of each clip; nothing would be left of one whose modalities are all dropped.

    Raises:
        MediaError: there is such a clip.
    """
    for item in prepared:
        if ablation.drop and item.inputs.present <= ablation.drop:
            present = " and ".join(in_order(item.inputs.present))
            raise MediaError(
                f"{item.content.clip.name}: it has {present} only, and all of it is dropped; "
                "drop less"
            )
    return [subsets_to_score(item.inputs.present, ablation) for item in prepared]


def _checkpoint_folder(options: ModelOptions) -> Path | None:
    """The checkpoint to load; None to read the bare base."""
    if options.checkpoint is not None:
        return Path(options.checkpoint)
    if options.embedded:
        return TINY / "checkpoint"
    local_folder(options.model or "tiny")  # a wrong path is the first thing to say
    method = options.readout or ZERO_SHOT
    if not method_named(method).is_zero_shot:
        raise ConfigError(
            f"readout {method}: it needs weights, and no checkpoint was given; add "
            "--checkpoint DIR (a folder that train or calibrate wrote), or read the base "
            f"with --readout {ZERO_SHOT}"
        )
    return None


def _check_base(folder: Path, base: str) -> None:
    """The base that a checkpoint names is here, or may be a hub id."""
    try:
        local_folder(base)
    except ModelError as error:
        raise ModelError(
            f"checkpoint {folder}: it was trained on {base}, which is not here; give --model DIR"
        ) from error


def _check_replaces(method: str | None, stored: str) -> None:
    """A checkpoint's own method, or, between two that need no weights, either."""
    if method in (None, stored):
        return
    if not (method_named(method or stored).is_zero_shot and method_named(stored).is_zero_shot):
        weightless = [m.name for m in METHODS.values() if m.is_zero_shot]
        raise ConfigError(
            f"readout {method!r}: this checkpoint holds a {stored} readout; leave --readout out "
            f"(only {' and '.join(weightless)}, which have no weights, can replace each other)"
        )
