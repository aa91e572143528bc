"""The model that a run trains: a Thinker with LoRA, a readout, and how both are shown a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from omni_msa.files.labels import LabelScale
from omni_msa.methods import make_readout
from omni_msa.methods.method import Readout
from omni_msa.modalities import Subset
from omni_msa.model.inputs import InputBuilder
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions, TrainOptions
from omni_msa.scoring.self_check import check_scores


@dataclass(frozen=True)
class TrainedModel:
    """A Thinker and a readout that are trained together on the same clips."""

    thinker: Thinker
    readout: Readout
    builder: InputBuilder
    media: MediaOptions
    hide: Subset  # modalities that are never shown

    def set_training(self, training: bool) -> None:
        """Switches dropout on or off in both."""
        self.thinker.model.train(training)
        self.readout.train(training)

    def lora_parameters(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's weights, by name."""
        return {n: p for n, p in self.thinker.model.named_parameters() if p.requires_grad}

    def weights(self) -> dict[str, torch.nn.Parameter]:
        """Everything that is trained, by name."""
        own = {f"readout.{name}": p for name, p in self.readout.named_parameters()}
        return self.lora_parameters() | own

    def self_check(self) -> dict[str, Any]:
        """The built-in clip's scores, as a checkpoint holds them."""
        return check_scores(self.thinker, self.readout, self.builder, self.media, self.hide)


def fresh_readout(options: TrainOptions, thinker: Thinker, scale: LabelScale) -> Readout:
    """The readout that the options name, with weights that follow from the seed."""
    regression = {"head": options.head, "dropout": options.head_dropout}
    settings = regression if options.readout == "regression" else None
    torch.manual_seed(options.seed)
    return make_readout(options.readout, thinker, scale, settings)


def make_optimizer(model: TrainedModel, options: TrainOptions) -> torch.optim.Optimizer:
    """AdamW with two learning rates; in 8 bits and paged on a GPU."""
    lora = list(model.lora_parameters().values())
    groups: list[dict[str, Any]] = [{"params": lora, "lr": options.lora_learning_rate}]
    if own := list(model.readout.parameters()):
        groups.append({"params": own, "lr": options.head_learning_rate})
    for group in groups:
        group["initial_lr"] = group["lr"]
    if model.thinker.device.type == "cuda":
        from bitsandbytes.optim import PagedAdamW8bit

        return PagedAdamW8bit(groups, weight_decay=options.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=options.weight_decay)
