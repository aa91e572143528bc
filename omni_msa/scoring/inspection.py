"""What a checkpoint is, and whether it still does what it did: facts read off the loaded model."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omni_msa.options import ModelOptions
from omni_msa.scoring.checkpoint import STATE, CheckpointInfo, media_options
from omni_msa.scoring.scorer import Scorer
from omni_msa.scoring.self_check import check_scores

TOLERANCE = 1e-3  # of a score, on a CPU with the same quantization
TOLERANCE_BF16 = 0.05  # the same on a GPU of the same model
PARTS = {"language_model": "language model", "audio_tower": "audio tower", "visual": "vision tower"}


@dataclass(frozen=True)
class Inspection:
    """A checkpoint's own account, and what was found when it was loaded."""

    folder: Path
    info: CheckpointInfo
    wrapped: dict[str, int] = field(default_factory=dict)  # part -> linears with LoRA
    quantized: dict[str, int] = field(default_factory=dict)  # class name -> linears
    readout_parameters: int = 0
    check: str = "none"  # passed, failed, other conditions, none
    largest_difference: float | None = None
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """False while training goes on, or was stopped: it then holds its best epoch so far."""
        return not (self.folder / STATE).exists()

    @property
    def sound(self) -> bool:
        """False when the built-in clip no longer gets its score."""
        return self.check != "failed"

    def to_json(self) -> dict[str, Any]:
        info = self.info
        return {
            "checkpoint": str(self.folder),
            "base": info.base,
            "readout": info.method,
            "readout_settings": info.method_options,
            "readout_parameters": self.readout_parameters,
            "label_range": list(info.label_space.range),
            "label_mean": info.label_space.mean,
            "label_deviation": info.label_space.deviation,
            "lora": info.lora,
            "wrapped": self.wrapped,
            "quantize": info.quantize,
            "linear_layers": self.quantized,
            "hide": info.hide,
            "media": info.media,
            "seed": info.seed,
            "training": info.training,
            "finished": self.finished,
            "metrics": info.metrics,
            "intervals": info.intervals,
            "versions": info.versions,
            "check": {
                "result": self.check,
                "largest_difference": self.largest_difference,
                "recorded": info.self_check.get("scores", {}),
                "now": self.scores,
            },
        }


def inspect_checkpoint(model: ModelOptions) -> Inspection:
    """Loads a checkpoint on its base and scores the built-in clip.

    Raises:
        ModelError: it cannot be loaded: another base, a damaged or missing file, a foreign key.
    """
    scorer = Scorer.load(model)
    info, folder = scorer.checkpoint.info, scorer.checkpoint.folder
    assert folder is not None  # a checkpoint was named
    now = check_scores(
        scorer.thinker, scorer.method, scorer.builder, media_options(info), scorer.hidden
    )
    recorded, scores = info.self_check.get("scores", {}), now["scores"]
    differences = [abs(score - scores.get(name, math.nan)) for name, score in recorded.items()]
    largest = max(differences, key=lambda d: math.inf if math.isnan(d) else d, default=None)
    return Inspection(
        folder=folder,
        info=info,
        wrapped=_wrapped(scorer.thinker.model),
        quantized=_linears(scorer.thinker.core),
        readout_parameters=sum(p.numel() for p in scorer.method.parameters()),
        check=_verdict(info.self_check, now, largest),
        largest_difference=largest if largest is None or math.isfinite(largest) else None,
        scores=scores,
    )


def _verdict(recorded: dict[str, Any], now: dict[str, Any], difference: float | None) -> str:
    if difference is None:
        return "none"
    tolerance = TOLERANCE if now["device"] == "cpu" else TOLERANCE_BF16
    if difference <= tolerance:
        return "passed"
    alike = all(recorded.get(name) == now[name] for name in ("quantize", "device"))
    return "failed" if alike or math.isnan(difference) else "other conditions"


def _wrapped(model: Any) -> dict[str, int]:
    """Linears that LoRA has wrapped, by part of the Thinker."""
    counts: Counter[str] = Counter()
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            part = next((title for key, title in PARTS.items() if f".{key}." in name), "other")
            counts[part] += 1
    return dict(counts)


def _linears(model: Any) -> dict[str, int]:
    """Linear layers by class: what the quantizer has replaced, and what it has not."""
    kinds = ("Linear", "Linear4bit", "Linear8bitLt")
    names = [
        type(module).__name__
        for name, module in model.named_modules()
        if not hasattr(module, "lora_A") and ".lora_" not in name
    ]
    return dict(Counter(name for name in names if name in kinds))
