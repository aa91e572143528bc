"""What a clip costs before anything is loaded: tokens, and bytes by part; and what fits a budget.

Arithmetic on a configuration. Tokens are those that `inputs.py` and `packing.py` build, because
the encoders and the packer themselves count them; bytes are those of `model/estimates.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from omni_msa.errors import ConfigError, ModelError, check_choice
from omni_msa.files.labels import LabelSpace
from omni_msa.methods import Method, method_named, parse_options
from omni_msa.modalities import Subset, all_subsets, in_order, tokens
from omni_msa.model.encoders import ENCODERS, Extent
from omni_msa.model.estimates import (
    GIB,
    ByteCounts,
    Holding,
    ModelSize,
    TokenCounts,
    byte_counts,
    lora_parameters,
    model_size,
)
from omni_msa.model.inputs import InputBuilder, Segment, ThinkerInputs
from omni_msa.model.loading import (
    load_processor,
    local_folder,
    resolve_quantize,
    thinker_config,
)
from omni_msa.model.packing import pack
from omni_msa.model.prompt import WORDS
from omni_msa.model.published import SIZES, published_thinker_config
from omni_msa.options import PATCH_SIDE, MediaOptions, TrainOptions

PURPOSES = ("score", "train")
# What `fit` tries below the workload, best first.
BATCH_STEPS = (64, 32, 16, 8, 4, 2, 1)
PIXEL_STEPS = tuple(n * PATCH_SIDE**2 for n in (768, 512, 256, 128, 96, 64, 32, 16, 4))
FRAME_STEPS = (768, 256, 128, 64, 32, 16, 12, 8, 6, 4, 2)
DAY = 86_400.0  # seconds
SPARE = 0.05  # of a budget, kept free: what was measured was up to 3 % above the estimate


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of the fixed words. Defaults: Qwen's vocabulary and prompt version 2."""

    prefix: int = 43
    suffix: int = 5
    lead_in: int = 3  # before the transcript, as `WORDS` is tokenized alone

    @classmethod
    def of(cls, builder: InputBuilder) -> PromptTokens:
        """Counted with a model's own tokenizer and template."""
        words = builder.tokenizer(WORDS, add_special_tokens=False)["input_ids"]
        return cls(len(builder.prefix.token_ids), len(builder.suffix.token_ids), len(words))


@dataclass(frozen=True)
class Workload:
    """What is shown, and what is done with it."""

    seconds: float  # of the clip
    text_tokens: int = 30  # of its transcript
    media: MediaOptions = field(default_factory=MediaOptions)
    width: int = 1280  # pixels of the picture, as displayed
    height: int = 720
    modalities: Subset = field(default_factory=tokens)
    purpose: str = "score"
    method: str = TrainOptions.method
    subsets: str = "packed"  # "packed": every subset in the same pass; "full": the clip alone
    batch_size: int = 1

    def __post_init__(self) -> None:
        check_choice("task", self.purpose, PURPOSES)
        check_choice("subsets", self.subsets, ("packed", "full"))
        if not 0 < self.seconds <= DAY or self.text_tokens < 0 or self.batch_size < 1:
            raise ConfigError(
                f"a clip lasts more than 0 s and at most a day, has 0 or more text tokens and "
                f"comes 1 or more at a time, got {self.seconds} s, {self.text_tokens} tokens, "
                f"batch {self.batch_size}"
            )
        for name in self.modalities:
            check_choice("modality", name, in_order(tokens()))
        if not self.modalities:
            raise ConfigError("a clip shows at least one modality, got none")

    def extent(self, lead_in: int = 0) -> Extent:
        """How large the clip is; `lead_in` tokens stand before its transcript."""
        return Extent(self.seconds, self.width, self.height, self.text_tokens, lead_in)


@dataclass(frozen=True)
class Estimate:
    """What one pass over a batch needs."""

    tokens: TokenCounts
    bytes: ByteCounts


@dataclass(frozen=True)
class Plan:
    """What fits, and all that there is to print about it."""

    model: str
    parameters: int
    trainable: int
    workload: Workload
    holding: Holding
    estimate: Estimate
    budget_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order in which they are read."""
        media = self.workload.media
        tokens, sizes = self.estimate.tokens, self.estimate.bytes
        parts = {f.name: getattr(sizes, f.name) for f in fields(sizes)} | {"total": sizes.total}
        return {
            "model": self.model,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "trainable_percent": round(100 * self.trainable / (self.parameters + self.trainable), 4)
            if self.trainable
            else 0.0,
            "task": self.workload.purpose,
            "seconds": self.workload.seconds,
            "subsets": self.workload.subsets,
            "max_frames": media.max_frames,
            "max_pixels": media.max_pixels,
            "batch_size": self.workload.batch_size,
            "holding": asdict(self.holding),
            "tokens": tokens.to_json(),
            "gib": {name: round(value / GIB, 3) for name, value in parts.items()},
            "budget_gib": round(self.budget_bytes / GIB, 3) if self.budget_bytes else None,
        }


def make_plan(
    model: str, workload: Workload, holding: Holding, budget_bytes: int | None = None
) -> Plan:
    """The estimate for a model; with a budget, for the largest frames and batch that fit it.

    Args:
        model: "7b" or "3b" (the published sizes), "tiny", or a folder.
        workload: what is asked for; with a budget, the most that is tried.
        holding: how the model is held.
        budget_bytes: memory of the device; a twentieth of it is kept free.

    Raises:
        ConfigError: nothing fits, there is no such size, or the method looks at nothing of it.
        ModelError: there is no such folder.
    """
    config, prompt = describe_model(model)
    size = model_size(config)
    method = method_named(workload.method)
    if not method.modalities(method.Options()) & workload.modalities:
        raise ConfigError(
            f"{method.name} looks at no {' or '.join(in_order(workload.modalities))}, and leaves "
            "the base alone: there is nothing to plan; give --model tiny to train it"
        )
    holding = _resolved(holding, size, method)
    if budget_bytes is not None:
        workload = fit(budget_bytes, size, workload, holding, prompt)
    return Plan(
        model,
        size.parameters,
        lora_parameters(size, holding) or _own_parameters(size, method),
        workload,
        holding,
        estimate(size, workload, holding, prompt),
        budget_bytes,
    )


def describe_model(model: str) -> tuple[Any, PromptTokens]:
    """Configuration and prompt lengths of a published size, `tiny`, or a folder.

    Raises:
        ModelError: there is no such folder, or it is not a Qwen2.5-Omni one.
    """
    published = model.lower().rpartition("-")[2]
    if published in SIZES and not Path(model).is_dir() and not model.startswith("."):
        return published_thinker_config(published), PromptTokens()
    folder = local_folder(model)
    if folder is None:
        raise ModelError(
            f"model {model}: its sizes are not known here; give {' or '.join(SIZES)}, "
            "tiny, or a folder"
        )
    config = thinker_config(model, folder)
    return config, PromptTokens.of(InputBuilder(load_processor(model, folder), config))


def estimate(
    size: ModelSize, workload: Workload, holding: Holding, prompt: PromptTokens | None = None
) -> Estimate:
    """Tokens and bytes of one pass: scoring, or a training step."""
    tokens = count_tokens(workload, prompt or PromptTokens())
    method = method_named(workload.method)
    holding, own = _resolved(holding, size, method), _own_parameters(size, method)
    options = parse_options(method, {})
    training = workload.purpose == "train" and method.trains_through_base(options)
    return Estimate(tokens, byte_counts(size, holding, tokens, workload.batch_size, training, own))


def fit(
    budget_bytes: int,
    size: ModelSize,
    workload: Workload,
    holding: Holding,
    prompt: PromptTokens | None = None,
) -> Workload:
    """The largest workload that fits, up to the one that is asked for.

    The batch is made smaller first, because that changes no score; then the frames; and only then
    are there fewer of them.

    Raises:
        ConfigError: not even the smallest fits; the message says what that would need.
    """
    media = workload.media
    smallest, need = None, 0
    for frames in _steps(FRAME_STEPS, media.max_frames):
        for pixels in _steps(PIXEL_STEPS, media.max_pixels):
            for batch in _steps(BATCH_STEPS, workload.batch_size):
                smaller = replace(
                    media,
                    max_frames=frames,
                    min_frames=min(media.min_frames, frames),
                    max_pixels=pixels,
                    min_pixels=min(media.min_pixels, pixels),
                )
                smallest = replace(workload, media=smaller, batch_size=batch)
                need = estimate(size, smallest, holding, prompt).bytes.total
                if need <= (1 - SPARE) * budget_bytes:
                    return smallest
    assert smallest is not None
    raise ConfigError(
        f"a budget of {budget_bytes / GIB:.1f} GiB is too small: {workload.purpose} on "
        f"{workload.seconds:g} s needs {need / (1 - SPARE) / GIB:.1f} GiB with "
        f"{smallest.media.max_frames} frames of {smallest.media.max_pixels} pixels, one clip at "
        "a time; take a smaller model, quantize 4bit, or shorter clips"
    )


def count_tokens(workload: Workload, prompt: PromptTokens) -> TokenCounts:
    """Tokens of one clip, by the encoders' own counts and the packer itself."""
    extent = workload.extent(prompt.lead_in)
    sizes = {
        name: encoder.measure(extent, workload.media)
        for name, encoder in ENCODERS.items()
        if name in workload.modalities
    }
    parts = {name: _blank(size.tokens) for name, size in sizes.items()}
    inputs = ThinkerInputs(_blank(prompt.prefix), parts, _blank(prompt.suffix))
    packs = workload.subsets == "packed"
    subsets = all_subsets(inputs.present) if packs else (inputs.present,)
    packed = len(pack(inputs, subsets).token_ids)
    return TokenCounts(sizes, inputs.num_tokens["total"], packed)


def _resolved(holding: Holding, size: ModelSize, method: type[Method]) -> Holding:
    """With `auto` as it is resolved when the model is loaded, and the adapter that is trained."""
    quantize = resolve_quantize(holding.quantize, size.parameters)
    if not method.adapts_base(parse_options(method, {})):  # `Trainer` refuses checkpointing
        return replace(holding, quantize=quantize, lora_rank=0, checkpointing=False)
    rank = method.recipe.get("lora_rank", holding.lora_rank)
    return replace(holding, quantize=quantize, lora_rank=rank)


def _own_parameters(size: ModelSize, method: type[Method]) -> int:
    width = size.config.text_config.hidden_size
    return method.num_parameters(width, parse_options(method, {}), LabelSpace())


def _blank(length: int) -> Segment:
    return Segment(torch.zeros(length, dtype=torch.long), torch.zeros(3, length, dtype=torch.long))


def _steps(steps: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The most, then every step below it."""
    return (most, *(step for step in steps if step < most))
