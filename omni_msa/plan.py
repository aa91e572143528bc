"""What a clip costs before anything is loaded: tokens, and bytes by part; and what fits a budget.

Arithmetic on a configuration. Tokens are those that `inputs.py` and `packing.py` build, because
the reader's own frame plan and the packer itself count them. Weights and adapter follow from the
parameters; activations from what one layer holds for a token, as `_stages` says.

Shapes: L tokens, P patches, M sound frames (50 a second), H width, I MLP width, B clips,
e bytes of an element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from omni_msa.architecture import SIZES, published_thinker_config
from omni_msa.checkpoint import LORA_SUFFIXES, LORA_TARGETS
from omni_msa.config import MediaOptions
from omni_msa.errors import ConfigError, ModelError
from omni_msa.inputs import HOP, InputBuilder, Segment, ThinkerInputs, num_audio_tokens
from omni_msa.media.sampling import plan_frames
from omni_msa.packing import pack
from omni_msa.prompt import WORDS
from omni_msa.readouts.regression import HEAD_WIDTH
from omni_msa.thinker import local_folder, quiet_loading, resolve_quantize
from omni_msa.values import (
    MODALITIES,
    PATCH_SIDE,
    SAMPLE_RATE,
    Subset,
    VideoTrack,
    all_subsets,
)

GIB = 1024**3
# Allowances for what no tensor accounts for, not derived: on a GPU the driver's context, kernels
# and what the allocator cannot reuse; on a CPU the interpreter and its libraries.
OVERHEAD_BYTES = {"cuda": int(1.0 * GIB), "cpu": int(1.0 * GIB)}
TASKS = ("score", "train")
# What `fit` tries below what was asked, best first.
BATCH_STEPS = (64, 32, 16, 8, 4, 2, 1)
PIXEL_STEPS = tuple(n * PATCH_SIDE**2 for n in (768, 512, 256, 128, 96, 64, 32, 16, 4))
FRAME_STEPS = (768, 256, 128, 64, 32, 16, 12, 8, 6, 4, 2)


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of the fixed words. Defaults: Qwen's vocabulary and prompt version 1."""

    prefix: int = 38
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
    modalities: Subset = frozenset(MODALITIES)
    task: str = "score"
    subsets: str = "packed"  # "packed": every subset in the same pass; "full": the clip alone
    batch_size: int = 1

    def __post_init__(self) -> None:
        _one_of("task", self.task, TASKS)
        _one_of("subsets", self.subsets, ("packed", "full"))
        if self.seconds <= 0 or self.text_tokens < 0 or self.batch_size < 1:
            raise ConfigError(
                f"a clip lasts more than 0 s, has 0 or more text tokens and comes 1 or more at a "
                f"time, got {self.seconds} s, {self.text_tokens} tokens, batch {self.batch_size}"
            )
        if not self.modalities or self.modalities - set(MODALITIES):
            raise ConfigError(
                f"modalities {sorted(self.modalities)}; choose among: {', '.join(MODALITIES)}"
            )


@dataclass(frozen=True)
class Holding:
    """How the model is held in memory. `bf16` None: as it is loaded, which is on a GPU only."""

    device: str = "cuda"
    quantize: str = "auto"
    lora_rank: int = 32  # 0: no adapter
    lora_scope: str = "all"  # "all": towers too, as published; "language": its model alone
    checkpointing: bool = True  # activations of a layer are computed again for its backward pass
    adam_8bit: bool = False  # AdamW states of one byte instead of four
    bf16: bool | None = None

    def __post_init__(self) -> None:
        _one_of("device", self.device, tuple(OVERHEAD_BYTES))
        _one_of("lora_scope", self.lora_scope, tuple(LORA_TARGETS))

    @property
    def element_bytes(self) -> int:
        half = self.device == "cuda" if self.bf16 is None else self.bf16
        return 2 if half else 4


@dataclass(frozen=True)
class ModelSize:
    """A Thinker's configuration and what was counted in it, without allocating a weight."""

    config: Any
    linears: tuple[tuple[str, int, int], ...]  # name, inputs, outputs: what is quantized
    others: int  # parameters of embeddings, head, norms, convolutions and biases

    @property
    def parameters(self) -> int:
        return self.others + sum(rows * columns for _, rows, columns in self.linears)

    def adapted(self, scope: str) -> Iterator[tuple[int, int]]:
        """Inputs and outputs of every layer that LoRA adapts."""
        for name, rows, columns in self.linears:
            if name.endswith(LORA_SUFFIXES) and (scope == "all" or ".language_model." in name):
                yield rows, columns


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of one clip: by part (markers counted in), read alone, and with its subsets."""

    video: int
    audio: int
    text: int
    total: int
    packed: int  # what the language model is given
    patches: int  # what the vision tower is given
    sound_frames: int  # what the audio tower is given, 50 a second


@dataclass(frozen=True)
class ByteCounts:
    """Memory by part, in bytes."""

    weights: int
    adapter: int  # LoRA and readout; in training with their gradients and Adam states
    activations: int
    overhead: int

    @property
    def tensors(self) -> int:
        """What the framework allocates: all but the overhead."""
        return self.weights + self.adapter + self.activations

    @property
    def total(self) -> int:
        return self.tensors + self.overhead


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
            "task": self.workload.task,
            "seconds": self.workload.seconds,
            "subsets": self.workload.subsets,
            "max_frames": media.max_frames,
            "max_pixels": media.max_pixels,
            "batch_size": self.workload.batch_size,
            "holding": asdict(self.holding),
            "tokens": asdict(tokens),
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
        budget_bytes: memory of the device, all of which may be used.

    Raises:
        ConfigError: nothing fits, or there is no such size.
        ModelError: there is no such folder.
    """
    config, prompt = describe_model(model)
    size = model_size(config)
    held = replace(holding, quantize=resolve_quantize(holding.quantize, config))
    if budget_bytes is not None:
        workload = fit(budget_bytes, size, workload, held, prompt)
    return Plan(
        model,
        size.parameters,
        lora_parameters(size, held),
        workload,
        held,
        estimate(size, workload, held, prompt),
        budget_bytes,
    )


def describe_model(model: str) -> tuple[Any, PromptTokens]:
    """Configuration and prompt lengths of a published size, `tiny`, or a folder.

    Raises:
        ModelError: there is no such folder, or it is not a Qwen2.5-Omni one.
    """
    published = model.lower().rpartition("-")[2]
    if published in SIZES and not model.startswith("."):
        return published_thinker_config(published), PromptTokens()
    folder = local_folder(model)
    if folder is None:
        raise ModelError(
            f"model {model}: its sizes are not known here; give {' or '.join(SIZES)}, "
            "tiny, or a folder"
        )
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniProcessor

    try:
        with quiet_loading():
            config = Qwen2_5OmniConfig.from_pretrained(folder).thinker_config
            builder = InputBuilder(Qwen2_5OmniProcessor.from_pretrained(folder), config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"model {model}: not a Qwen2.5-Omni folder ({reason})") from error
    return config, PromptTokens.of(builder)


def model_size(config: Any) -> ModelSize:
    """Counts a Thinker's parameters by kind on the meta device."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    with torch.device("meta"):
        model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(config)
    linears = tuple(
        (name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    counted = sum(p.numel() for p in model.parameters())
    return ModelSize(config, linears, counted - sum(a * b for _, a, b in linears))


def lora_parameters(size: ModelSize, holding: Holding) -> int:
    """Trained parameters of the adapter: rank * (inputs + outputs) a layer."""
    return sum(holding.lora_rank * (a + b) for a, b in size.adapted(holding.lora_scope))


def estimate(
    size: ModelSize, workload: Workload, holding: Holding, prompt: PromptTokens | None = None
) -> Estimate:
    """Tokens and bytes of one pass: scoring, or a training step."""
    tokens = count_tokens(workload, prompt or PromptTokens())
    held = replace(holding, quantize=resolve_quantize(holding.quantize, size.config))
    return Estimate(
        tokens,
        ByteCounts(
            weights=_weight_bytes(size, held),
            adapter=_adapter_bytes(size, workload, held),
            activations=_activation_bytes(size, workload, held, tokens),
            overhead=OVERHEAD_BYTES[held.device],
        ),
    )


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
    smallest = None
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
                if estimate(size, smallest, holding, prompt).bytes.total <= budget_bytes:
                    return smallest
    assert smallest is not None
    need = estimate(size, smallest, holding, prompt).bytes.total
    raise ConfigError(
        f"a budget of {budget_bytes / GIB:.1f} GiB is too small: {workload.task} on "
        f"{workload.seconds:g} s needs {need / GIB:.1f} GiB with {smallest.media.max_frames} "
        f"frames of {smallest.media.max_pixels} pixels, one clip at a time; take a smaller model, "
        "quantize 4bit, or shorter clips"
    )


def count_tokens(workload: Workload, prompt: PromptTokens) -> TokenCounts:
    """Tokens of one clip, by the reader's frame plan and the packer itself."""
    media, parts = workload.media, {}
    video = audio = text = patches = sound_frames = 0
    if "video" in workload.modalities:
        frames = plan_frames(picture_track(workload), media)
        visual = len(frames.times_seconds) // 2 * frames.height * frames.width // PATCH_SIDE**2
        patches, video = 4 * visual, visual + 2
        parts["video"] = _blank(video)
    if "audio" in workload.modalities:
        heard = min(workload.seconds, media.max_audio_seconds)
        num_mel_frames = -(-int(heard * SAMPLE_RATE) // HOP)
        sound_frames, audio = (num_mel_frames + 1) // 2, num_audio_tokens(num_mel_frames) + 2
        parts["audio"] = _blank(audio)
    if "text" in workload.modalities:
        text = min(workload.text_tokens, media.max_text_tokens) + prompt.lead_in
        parts["text"] = _blank(text)
    inputs = ThinkerInputs(_blank(prompt.prefix), parts, _blank(prompt.suffix))
    shown = inputs.present
    subsets = all_subsets(shown) if workload.subsets == "packed" else (shown,)
    packed = len(pack(inputs, subsets).token_ids)
    total = inputs.num_tokens["total"]
    return TokenCounts(video, audio, text, total, packed, patches, sound_frames)


def _weight_bytes(size: ModelSize, holding: Holding) -> int:
    others = size.others * holding.element_bytes
    return others + sum(_linear_bytes(a * b, b, holding) for _, a, b in size.linears)


def _linear_bytes(count: int, outputs: int, holding: Holding) -> int:
    """One layer's weight. 4-bit: NF4 with double quantization, a byte a block of 64 and a float a
    block of 256 of those, and two code tables; 8-bit: a float a row."""
    if holding.quantize == "4bit":
        blocks = math.ceil(count / 64)
        return math.ceil(count / 2) + blocks + 4 * (math.ceil(blocks / 256) + 256 + 16)
    if holding.quantize == "8bit":
        return count + 4 * outputs
    return count * holding.element_bytes


def _adapter_bytes(size: ModelSize, workload: Workload, holding: Holding) -> int:
    """LoRA and head are fp32 however the base is held."""
    lora = lora_parameters(size, holding)
    head = HEAD_WIDTH * (size.config.text_config.hidden_size + 4) + 1
    if workload.task == "score":
        return 4 * (lora + head)
    adam = 2 if holding.adam_8bit else 8
    # Autocast keeps a half-precision copy of the adapter until the forward pass ends.
    copies = 2 if holding.element_bytes == 2 else 0
    return (4 + 4 + adam + copies) * lora + 16 * head


@dataclass(frozen=True)
class _Stage:
    """A tower or the language model: what one of its layers holds, in bytes a token."""

    count: int  # tokens of the whole batch
    layers: int
    trained: bool  # whether a backward pass goes through it
    hidden: int  # the state between layers
    held: int  # until the layer is done; in training, what its backward pass needs
    passing: int  # at the widest point, beside that
    around: int  # outside the layers: inputs, positions, what follows the last one
    unpacked: int  # in all, not a token: the largest weight, unpacked where it is quantized

    @property
    def peak(self) -> int:
        """While one layer runs. Its weights are unpacked where its activations are narrow."""
        return self.count * (self.held + self.around) + max(
            self.count * self.passing, self.unpacked
        )

    def kept(self, checkpointing: bool) -> int:
        """Until the backward pass: of every layer."""
        return self.count * (
            self.layers * (self.hidden if checkpointing else self.held) + self.around
        )


def _activation_bytes(
    size: ModelSize, workload: Workload, holding: Holding, tokens: TokenCounts
) -> int:
    """Peak of what one pass holds beside weights and adapter."""
    stages = _stages(size, workload, holding, tokens)
    bias = workload.batch_size * tokens.packed**2 * (holding.element_bytes + 1)  # and its booleans
    kept = sum(s.kept(holding.checkpointing) for s in stages if s.trained)
    if kept and not holding.checkpointing:
        kept -= min(s.count * s.held for s in stages)  # one layer's is in the peak as well
    return kept + max(stage.peak for stage in stages) + bias


def _stages(
    size: ModelSize, workload: Workload, holding: Holding, tokens: TokenCounts
) -> tuple[_Stage, ...]:
    """What a layer holds, counted from the allocations of one layer at the published widths.

    Scoring, MLP: two of its width, and LoRA's output and its product with the scale in fp32 (where
    the weights are not quantized, in bf16, a sum in fp32 too). Training, MLP: gate, activation, up,
    and the input of the last product behind LoRA's dropout, with the dropout's mask. The rest is in
    widths of the state: residuals, norms in fp32, queries, keys, values, and LoRA's inputs.
    Autocast lets LoRA take its inputs in bf16 on a GPU; on a CPU, PEFT casts them to fp32.
    """
    e, batch = holding.element_bytes, workload.batch_size
    casts = holding.device == "cpu" or e == 4  # LoRA's inputs, to fp32
    mask, wide = (4, e + 8) if casts else (1, e)
    lora = 8 if holding.quantize != "none" or e == 4 else 12
    text, vision, audio = (
        size.config.text_config,
        size.config.vision_config,
        size.config.audio_config,
    )

    def stage(count: int, layers: int, width: int, name: str, **bytes_each: int) -> _Stage:
        trained = workload.task == "train" and (
            name == "language_model" or holding.lora_scope == "all"
        )
        chosen = {k.removeprefix("train_"): v for k, v in bytes_each.items() if "train_" in k}
        scoring = {k: v for k, v in bytes_each.items() if "train_" not in k}
        each = scoring | chosen if trained else scoring
        unpacked = _unpacked_bytes(size, name, holding)
        return _Stage(batch * count, layers, trained, width * e, unpacked=unpacked, **each)

    width, mlp = text.hidden_size, text.intermediate_size
    language = stage(
        tokens.packed,
        text.num_hidden_layers,
        width,
        "language_model",
        held=2 * mlp * e + width * (4 * e + 4),
        passing=lora * mlp,
        around=0,
        train_held=mlp * (4 * e + mask) + width * (15 * e + 32 if casts else 17 * e + 13),
        train_passing=mlp * wide,
    )
    width, mlp = vision.hidden_size, vision.intermediate_size
    angles = 4 * width // vision.num_heads  # cosines and sines of a patch are fp32
    pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    seeing = stage(
        tokens.patches,
        vision.depth,
        width,
        "visual",
        held=2 * mlp * e + width * (3 * e + 4),
        passing=lora * mlp,
        around=2 * angles + pixels * (4 + e),
        train_held=mlp * (4 * e + mask) + width * (11 * e + 16 if casts else 11 * e + 10),
        train_passing=mlp * wide,
        train_around=10 * angles + width * (2 * e + 4),
    )
    width, mlp = audio.d_model, audio.encoder_ffn_dim
    hearing = stage(
        tokens.sound_frames,
        audio.encoder_layers,
        width,
        "audio_tower",
        held=mlp * e + width * 3 * e,
        passing=mlp * e,
        around=2 * audio.num_mel_bins * (4 + e),
        train_held=2 * mlp * e + width * (11 * e + 11),
        train_passing=width * e,
        train_around=width * (2 * e + 4),
    )
    return language, seeing, hearing


def _unpacked_bytes(size: ModelSize, part: str, holding: Holding) -> int:
    """The largest weight of a part, in full: it is unpacked when its layer is computed."""
    if holding.quantize == "none":
        return 0
    return max(a * b for name, a, b in size.linears if f".{part}." in name) * holding.element_bytes


def picture_track(workload: Workload) -> VideoTrack:
    """A picture track of that length at 30 frames a second."""
    pts_seconds = np.arange(0, max(workload.seconds, 1 / 30) - 1e-9, 1 / 30)
    size = workload.width, workload.height
    return VideoTrack(0, "", *size, 0, pts_seconds, end_seconds=workload.seconds)


def _blank(length: int) -> Segment:
    return Segment(torch.zeros(length, dtype=torch.long), torch.zeros(3, length, dtype=torch.long))


def _steps(steps: tuple[int, ...], most: int) -> tuple[int, ...]:
    """What was asked for, then every step below it."""
    return (most, *(step for step in steps if step < most))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} {value!r} is not known; choose one of: {', '.join(allowed)}")
