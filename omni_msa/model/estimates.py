"""What a Thinker and one pass of it take of memory, in bytes by part, from its configuration.

Nothing is loaded. Weights and adapter follow from the parameters; activations from what one layer
holds for a token (`_stages`), which was counted at the published widths.

Shapes: L tokens, B clips, e bytes of an element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from omni_msa.errors import check_choice
from omni_msa.model.encoders import ENCODERS, EncodedSize
from omni_msa.model.lora import LORA_SUFFIXES, LORA_TARGETS
from omni_msa.options import QUANTIZE

GIB = 1024**3
# Allowances for what no tensor accounts for, not derived: on a GPU the driver's context, kernels
# and what the allocator cannot reuse; on a CPU the interpreter and its libraries.
OVERHEAD_BYTES = {"cuda": int(1.0 * GIB), "cpu": int(1.0 * GIB)}


@dataclass(frozen=True)
class Holding:
    """How the model is held in memory. `bf16` None: as it is loaded, which is on a GPU only."""

    device: str = "cuda"
    quantize: str = "auto"
    lora_rank: int = 32  # 0: no adapter
    lora_scope: str = "all"  # "all": towers too; "language": its model alone
    checkpointing: bool = True  # activations of a layer are computed again for its backward pass
    adam_8bit: bool = False  # AdamW states of one byte instead of four
    bf16: bool | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("device", self.device, OVERHEAD_BYTES),
            ("quantize", self.quantize, QUANTIZE),
            ("lora_scope", self.lora_scope, LORA_TARGETS),
        ):
            check_choice(name, value, allowed)

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
    """Tokens of one clip, by modality, read alone, and with its subsets."""

    parts: dict[str, EncodedSize]
    total: int
    packed: int  # what the language model is given

    def to_json(self) -> dict[str, int]:
        """Plain values; a modality that is not shown has zero."""
        nothing = EncodedSize(0)
        sizes = {name: self.parts.get(name, nothing) for name in ENCODERS}
        return {
            **{name: size.tokens for name, size in sizes.items()},
            "total": self.total,
            "packed": self.packed,
            **{tower.unit: sizes[name].tower for name, tower in _TOWERS.items()},
        }


@dataclass(frozen=True)
class ByteCounts:
    """Memory by part, in bytes."""

    weights: int
    adapter: int  # LoRA and the method; in training with their gradients and Adam states
    activations: int
    overhead: int

    @property
    def tensors(self) -> int:
        """What the framework allocates: all but the overhead."""
        return self.weights + self.adapter + self.activations

    @property
    def total(self) -> int:
        return self.tensors + self.overhead


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


def byte_counts(
    size: ModelSize,
    holding: Holding,
    tokens: TokenCounts,
    batch_size: int,
    training: bool,
    method_parameters: int = 0,
) -> ByteCounts:
    """Memory of one pass over a batch: scoring, or a training step.

    `holding.quantize` must be resolved: "auto" is no way to hold a weight.
    """
    return ByteCounts(
        weights=_weight_bytes(size, holding),
        adapter=_adapter_bytes(size, holding, training, method_parameters),
        activations=_activation_bytes(size, holding, tokens, batch_size, training),
        overhead=OVERHEAD_BYTES[holding.device],
    )


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


def _adapter_bytes(size: ModelSize, holding: Holding, training: bool, head: int) -> int:
    """LoRA and the method's own parameters are fp32 however the base is held."""
    lora = lora_parameters(size, holding)
    if not training:
        return 4 * (lora + head)
    adam = 2 if holding.adam_8bit else 8
    # Autocast keeps a half-precision copy of the adapter until the forward pass ends.
    copies = 2 if holding.element_bytes == 2 else 0
    return (4 + 4 + adam + copies) * lora + 16 * head


@dataclass(frozen=True)
class _Layer:
    """What one layer holds, in bytes a token."""

    during: int  # until it is done; in training, what its backward pass needs
    passing: int  # at its widest point, beside that
    around: int = 0  # outside the layers: inputs, positions, what follows the last one


@dataclass(frozen=True)
class _Stage:
    """A tower or the language model at work on a batch."""

    count: int  # tokens
    layers: int
    hidden: int  # bytes of the state between layers, a token
    layer: _Layer
    unpacked: int  # bytes of the largest weight, unpacked where it is quantized
    trained: bool  # whether a backward pass goes through it

    @property
    def running(self) -> int:
        """While one layer runs, beside what it holds. Weights are unpacked where it is narrow."""
        return max(self.count * self.layer.passing, self.unpacked)

    def peak(self, checkpointing: bool) -> int:
        if self.trained and not checkpointing:
            return self.running  # what it holds is among what is kept
        around = 0 if self.trained else self.layer.around
        return self.count * (self.layer.during + around) + self.running

    def kept(self, checkpointing: bool) -> int:
        """Until the backward pass has come to it: of every layer."""
        each = self.hidden if checkpointing else self.layer.during
        return self.count * (self.layers * each + self.layer.around) * self.trained


def _activation_bytes(
    size: ModelSize, holding: Holding, tokens: TokenCounts, batch_size: int, training: bool
) -> int:
    """Peak of what one pass holds beside weights and adapter.

    Towers and language model run one after the other. What the tokens behind the whole clip see is
    B x (packed - whole) x packed booleans, and a bias made from them.
    """
    stages = _stages(size, holding, tokens, batch_size, training)
    behind = tokens.packed - tokens.total
    bias = batch_size * behind * tokens.packed * (holding.element_bytes + 1)
    until_backward = sum(stage.kept(holding.checkpointing) for stage in stages)
    return until_backward + max(stage.peak(holding.checkpointing) for stage in stages) + bias


def _stages(
    size: ModelSize, holding: Holding, tokens: TokenCounts, batch_size: int, training: bool
) -> list[_Stage]:
    counts = {name: part.tower for name, part in tokens.parts.items()}
    works = [(_LANGUAGE_MODEL, tokens.packed)]
    works += [(tower, counts.get(name, 0)) for name, tower in _TOWERS.items()]
    stages = []
    for work, count in works:
        name, part = work.module, getattr(size.config, work.config)
        trained = training and (holding.lora_scope == "all" or name == "language_model")
        stages.append(
            _Stage(
                batch_size * count,
                part.num_hidden_layers,
                part.hidden_size * holding.element_bytes,
                work.layer(part, holding, trained),
                _unpacked_bytes(size, name, holding),
                trained,
            )
        )
    return stages


# Layers, counted from the allocations of one layer at the published widths. `mlp` terms: scoring
# holds two of that width while LoRA makes its output and scales it, in fp32. Training holds gate,
# activation, up, and the input of the last product behind LoRA's dropout, with the dropout's mask.
# `width` terms: residuals, norms in fp32, queries, keys, values, LoRA's inputs and their masks.


def _text_layer(text: Any, holding: Holding, trained: bool) -> _Layer:
    e, width, mlp = holding.element_bytes, text.hidden_size, text.intermediate_size
    if not trained:
        return _Layer(2 * mlp * e + width * (4 * e + 4), _scoring_lora(holding) * mlp)
    if _lora_is_cast(holding):
        return _Layer(mlp * (4 * e + 4) + width * (15 * e + 32), mlp * (e + 8))
    return _Layer(mlp * (4 * e + _mask(holding)) + width * (17 * e + 13), mlp * e)


def _vision_layer(vision: Any, holding: Holding, trained: bool) -> _Layer:
    e, width, mlp = holding.element_bytes, vision.hidden_size, vision.intermediate_size
    angles = 4 * width // vision.num_heads  # a patch's cosines or sines, in fp32
    if not trained:
        pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        around = 2 * angles + pixels * (4 + e % 4)  # read in fp32, and cast
        return _Layer(2 * mlp * e + width * (3 * e + 4), _scoring_lora(holding) * mlp, around)
    around = 10 * angles + width * (2 * e + 4)  # and the merger
    if _lora_is_cast(holding):
        return _Layer(mlp * (4 * e + 4) + width * (11 * e + 16), mlp * (e + 8), around)
    return _Layer(mlp * (4 * e + _mask(holding)) + width * (11 * e + 10), mlp * e, around)


def _audio_layer(audio: Any, holding: Holding, trained: bool) -> _Layer:
    e, width, mlp = holding.element_bytes, audio.hidden_size, audio.intermediate_size
    if not trained:
        return _Layer(mlp * e + width * 4 * e, mlp * e, 2 * audio.num_mel_bins * (4 + e))
    return _Layer(2 * mlp * e + width * (11 * e + 11), width * e, width * (2 * e + 4))


def _scoring_lora(holding: Holding) -> int:
    """Bytes of an output that LoRA takes on its way; over bf16 weights, its sum is fp32 as well."""
    return 12 if holding.quantize == "none" and holding.element_bytes == 2 else 8


def _lora_is_cast(holding: Holding) -> bool:
    """Autocast lets LoRA work in bf16 on a GPU; on a CPU, PEFT casts its inputs to fp32."""
    return holding.device == "cpu" and holding.element_bytes == 2


def _mask(holding: Holding) -> int:
    """Bytes of an element of a dropout mask: on a CPU it is of the input's type."""
    return 1 if holding.device == "cuda" else holding.element_bytes


def _unpacked_bytes(size: ModelSize, part: str, holding: Holding) -> int:
    """The largest weight of a part, in full: it is unpacked when its layer is computed."""
    if holding.quantize == "none":
        return 0
    return max(a * b for name, a, b in size.linears if f".{part}." in name) * holding.element_bytes


@dataclass(frozen=True)
class _Network:
    """A part of the Thinker, and what a layer of it holds."""

    module: str
    config: str  # its name in the configuration
    layer: Callable[[Any, Holding, bool], _Layer]
    unit: str = ""  # what it is given


_LANGUAGE_MODEL = _Network("language_model", "text_config", _text_layer)
# By modality: those whose encoder has a tower.
_TOWERS = {
    "video": _Network("visual", "vision_config", _vision_layer, "patches"),
    "audio": _Network("audio_tower", "audio_config", _audio_layer, "sound_frames"),
}
