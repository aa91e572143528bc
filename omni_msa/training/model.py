"""The model that a run trains: a Thinker with LoRA, a method, and how both are shown a clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from omni_msa.files.labels import LabelSpace
from omni_msa.media.feed import Feed
from omni_msa.methods import Builder, Method, make_method
from omni_msa.methods.method import ParameterGroup
from omni_msa.modalities import Subset
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions, TrainOptions
from omni_msa.scoring.self_check import check_scores
from omni_msa.training.feature_feed import FeatureFeed


@dataclass(frozen=True)
class TrainedModel:
    """A Thinker and a method that are trained together on the same clips."""

    thinker: Thinker
    method: Method
    builder: Builder
    media: MediaOptions
    hide: Subset  # modalities that are never shown

    def set_training(self, training: bool) -> None:
        """Switches dropout on or off in both; a base without an adapter stays as it is."""
        self.thinker.model.train(training and self.thinker.adapted)
        self.method.train(training)

    def lora_parameters(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's weights, by name."""
        return {n: p for n, p in self.thinker.model.named_parameters() if p.requires_grad}

    def weights(self) -> dict[str, torch.nn.Parameter]:
        """Everything that is trained, by name."""
        own = {f"readout.{name}": p for name, p in self.method.named_parameters()}
        return self.lora_parameters() | own

    def feed(self, feed: Feed, notice: Callable[[str], None]) -> Feed:
        """The clips as this model is trained on them: with the features that it looks at, which are
        made once."""
        if self.method.features is None:
            return feed
        return FeatureFeed(feed, self.method.features, self.media, self.hide, notice)

    def self_check(self) -> dict[str, Any]:
        """The built-in clip's scores, as a checkpoint holds them."""
        return check_scores(self.thinker, self.method, self.builder, self.media, self.hide)


def fresh_method(options: TrainOptions, thinker: Thinker, label_space: LabelSpace) -> Method:
    """The method that the options name, with weights that follow from the seed."""
    torch.manual_seed(options.seed)
    return make_method(options.method, thinker, label_space, options.method_options)


def make_optimizer(model: TrainedModel, options: TrainOptions) -> torch.optim.Optimizer:
    """AdamW at one rate for LoRA and the method's own for its groups; 8-bit and paged on a GPU."""
    lora = ParameterGroup(list(model.lora_parameters().values()), options.lora_learning_rate)
    groups: list[dict[str, Any]] = [
        {
            "params": g.parameters,
            "lr": g.learning_rate,
            "initial_lr": g.learning_rate,
            "eps": g.eps,
        }
        for g in (lora, *model.method.parameter_groups(options.head_learning_rate))
    ]
    if model.thinker.device.type == "cuda":
        from bitsandbytes.optim import PagedAdamW8bit

        return PagedAdamW8bit(groups, weight_decay=options.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=options.weight_decay)
