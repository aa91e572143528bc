"""A clip in, a score and its ablation out, in one forward pass.

Scorer.score -> read_clip -> Scorer.prepare (inputs) -> Method.read (Thinker.forward) -> Record
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from omni_msa.errors import ConfigError, ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Record
from omni_msa.media import read_clip
from omni_msa.methods import METHODS, Inputs, make_method, method_named
from omni_msa.modalities import Subset, subset_name
from omni_msa.model.folder_features import load_encoders
from omni_msa.model.folders import local_folder
from omni_msa.model.identity import base_sha256
from omni_msa.model.loading import is_held, load_thinker
from omni_msa.model.thinker import Thinker
from omni_msa.options import (
    AblationOptions,
    BatchOptions,
    MediaOptions,
    ModelOptions,
    checked_modalities,
)
from omni_msa.scoring.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    media_options,
    read_info,
)
from omni_msa.scoring.guarded import GuardedScorer
from omni_msa.scoring.identity import ScorerIdentity, named_checkpoint
from omni_msa.scoring.records import records_of, subsets_of
from omni_msa.scoring.states import StateCollector
from omni_msa.scoring.stream import as_clip, score_stream
from omni_msa.values import Clip, ClipContent

ZERO_SHOT = "verbalizer"  # how a base without a checkpoint is read


@dataclass(frozen=True)
class Prepared:
    """A clip that was read and turned into tensors; only the forward pass is missing."""

    content: ClipContent
    inputs: Inputs
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

    Make it with `Scorer.load()`. Several threads may share one: what they do to the model is done
    one after another, and clips are read side by side.
    """

    def __init__(self, thinker: Thinker, checkpoint: Checkpoint, media: MediaOptions) -> None:
        self.thinker = thinker
        self.checkpoint = checkpoint
        self.media = media
        self.method = checkpoint.method
        self.label_space = checkpoint.info.label_space
        self.untrained: Subset = frozenset(checkpoint.info.hide)  # it was trained without these
        self.hidden = self.untrained | self.method.unused_modalities(self.method.options)
        self.builder = self.method.builder(thinker, checkpoint.info.prompt_version)
        self.state_collector: StateCollector | None = None  # gets the states of what is scored
        self._building = Lock()  # a tokenizer is not made for several threads

    @classmethod
    def load(
        cls,
        model: ModelOptions | None = None,
        media: MediaOptions | dict[str, Any] | None = None,
        beside: Scorer | None = None,
    ) -> Scorer:
        """Loads a base and its checkpoint; with no options, the embedded `tiny`.

        Args:
            model: which model, and how it is held in memory.
            media: how clips are read: by exactly these options, or, given as a dict of some of
                them, by the checkpoint's own ones with these in their place.
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
        thinker = load_thinker(*_base(options, info), options.device, loaded)
        encoders = {name: row["name"] for name, row in info.encoders.items()}
        load_encoders(thinker, encoders | options.encoders)
        with thinker.shared.lock:  # another scorer may be computing with the base
            checkpoint = load_checkpoint(folder, thinker, options.readout)
            if thinker.adapted:
                thinker.shared.merge()
        return cls(thinker, checkpoint, chosen)

    @classmethod
    def _zero_shot(
        cls,
        options: ModelOptions,
        media: MediaOptions | dict[str, Any] | None,
        loaded: Thinker | None,
    ) -> Scorer:
        """A bare base, read by a method that has no weights."""
        thinker = load_thinker(*_base(options, None), options.device, loaded)
        load_encoders(thinker, options.encoders)
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

    def has_base_of(self, options: ModelOptions) -> bool:
        """Whether a scorer of these options, loaded beside this one, would share its base."""
        folder = _checkpoint_folder(options)
        name, quantize = _base(options, read_info(folder) if folder is not None else None)
        return is_held(self.thinker, name, quantize, options.device)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What every record says of the way it was scored."""
        return self.identity.remarks

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    def loaded(self) -> Scorer:
        """Itself: a `DeferredScorer` is loaded by this."""
        return self

    @property
    def identity(self) -> ScorerIdentity:
        """What it is, as its records say it."""
        base, checkpoint = self.thinker.base, self.checkpoint
        return ScorerIdentity(
            base.name,
            checkpoint.folder,
            checkpoint.info,
            self.name,
            base.quantize,
            self.media,
            self.hidden,
            self.method.scoring_options(),
        )

    def describe(self) -> dict[str, Any]:
        """The `model` object of a record, without its fingerprint."""
        return self.identity.describe()

    def fingerprint(self, ablation: AblationOptions, hide: Subset = frozenset()) -> str:
        """Hash of everything but the clip that changes a row: rows of one file share it."""
        return self.identity.fingerprint(ablation, hide)

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
            ConfigError: a modality is not known.
        """
        hide = checked_modalities("hide", hide)
        content = read_clip(as_clip(clip), self.media, hide | self.hidden)
        prepared, ablation = [self.prepare(content, hide)], ablation or AblationOptions()
        subsets = subsets_of(prepared, ablation)
        with self.thinker.shared.lock:  # adapters of one base take turns
            start = time.perf_counter()
            reading = self.method.read(self.thinker, [prepared[0].inputs], subsets)
        seconds = time.perf_counter() - start
        return records_of(self, prepared, subsets, reading, seconds, ablation, hide)[0]

    def score_many(
        self,
        clips: Iterable[Clip | str | Path],
        batch_size: int = 8,
        ablation: AblationOptions | None = None,
        hide: Subset = frozenset(),
    ) -> Iterator[Record]:
        """Scores clips as they come: a record each, in their order, a failed one included.

        A process of its own reads them; one that takes longer than the time limit
        (`MediaOptions.deadline_seconds`, and 5 s of grace) is ended, and its clip becomes a failed
        record. Memory holds one batch, however many clips there are.

        Args:
            clips: paths or clips; a batch of them is taken at a time, in the caller's thread.
            batch_size: clips that are read before they are scored, those alike in one pass.
            ablation: which subsets are scored in the same pass.
            hide: modalities that the model is not shown at all.

        Raises:
            ConfigError: a modality is not known, or the batch size is not possible.
        """
        BatchOptions(batch_size)
        if isinstance(clips, str | Path | Clip):
            raise ConfigError("score_many takes several clips: a list of paths; score takes one")
        hide = checked_modalities("hide", hide)
        guarded = GuardedScorer(self, ablation or AblationOptions(), hide)
        return score_stream(guarded, clips, batch_size)

    def prepare(self, content: ClipContent, hide: Subset = frozenset()) -> Prepared:
        """The CPU work before the forward pass: tokens, positions, patches, log-mel."""
        hide = checked_modalities("hide", hide)
        start = time.perf_counter()
        with self._building:
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
        subsets = subsets_of(prepared, ablation)
        with self.thinker.shared.lock:
            start = time.perf_counter()
            reading = self.method.read(self.thinker, [p.inputs for p in prepared], subsets)
        seconds = (time.perf_counter() - start) / len(prepared)
        return records_of(self, prepared, subsets, reading, seconds, ablation, hide)


def _checkpoint_folder(options: ModelOptions) -> Path | None:
    """The checkpoint to load; None to read the bare base."""
    if (folder := named_checkpoint(options)) is not None:
        return folder
    local_folder(options.model or "tiny")  # a wrong path is the first thing to say
    method = options.readout or ZERO_SHOT
    if not method_named(method).is_zero_shot:
        raise ConfigError(
            f"readout {method}: it needs weights, and no checkpoint was given; add "
            "--checkpoint DIR (a folder that train or calibrate wrote), or read the base "
            f"with --readout {ZERO_SHOT}"
        )
    return None


def _base(options: ModelOptions, info: CheckpointInfo | None) -> tuple[str, str]:
    """Name and quantization of the base: as the user says, else as the checkpoint does."""
    if info is None:
        return options.model or "tiny", options.quantize
    quantize = info.quantize if options.quantize == "auto" else options.quantize
    return options.model or info.base, quantize


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
