"""MMoLRE (arXiv 2505.14143, ICME 2025): a sentiment and emotions at once, by low-rank experts that
tasks share and low-rank experts of each task, under a router a task.

Half of the architecture is that of a third-party review of the paper; what was not found is ours
(`layers/mmolre.py` says which), and no number of the paper is claimed for it. Words and voice are
what the review describes; the face (`video=true`) is our option. In the paper the features are
those of RoBERTa and Data2Vec: `--encoder text=DIR audio=DIR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from omni_msa.errors import ConfigError, check_choice
from omni_msa.files.labels import LabelSpace
from omni_msa.methods.feature_method import FeatureMethod, Rows
from omni_msa.methods.heads import emotion_losses, head_losses
from omni_msa.methods.layers.mmolre import (
    SHARING,
    Mmolre,
    MmolreEncoding,
    MmolreShape,
    RouterName,
    load_balance,
)
from omni_msa.methods.method import Labels, in_weights
from omni_msa.modalities import Subset
from omni_msa.model.features import Sequences
from omni_msa.model.thinker import Thinker


@dataclass(frozen=True)
class MmolreOptions:
    """Of the experts, and of what is trained."""

    video: bool = False  # is the face looked at too?
    width: int | None = in_weights(None)  # of all sequences; None: of the widest features
    experts: int = in_weights(4)  # that tasks share, a block
    rank: int = in_weights(64)
    sharing: str = in_weights("mixed")  # or "hard", "shared", "specific": ablations
    full_rank: bool = in_weights(False)
    heads: int = 8  # of the fusion, at most
    emotion_weight: float = in_weights(1.0)  # of the emotions' loss beside the sentiment's
    balance: float = in_weights(0.0)  # of the term that keeps experts alike in use

    def __post_init__(self) -> None:
        check_choice("sharing", self.sharing, SHARING)
        for name in ("emotion_weight", "balance"):
            if not 0 <= getattr(self, name) < 1e6:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        self.shape(1)

    def shape(self, widest: int) -> MmolreShape:
        """Of the layers, for features of which the widest are so wide."""
        width = widest if self.width is None else self.width
        return MmolreShape(width, self.experts, self.rank, self.sharing, self.full_rank, self.heads)


class MmolreMethod(FeatureMethod):
    """A task is the score (or the class), or the emotions beside it."""

    name = "mmolre"
    Options = MmolreOptions
    recipe = {"epochs": 30, "patience": 8, "batch_size": 16, "head_learning_rate": 5e-4}

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: MmolreOptions) -> None:
        super().__init__(thinker, label_space, options)
        self.network = _network(self.feature_widths, label_space, options)
        self._routing: dict[RouterName, tuple[Any, int]] = {}  # summed weights, rows

    @classmethod
    def modalities(cls, options: MmolreOptions) -> Subset:
        return frozenset({"text", "audio"} | ({"video"} if options.video else set()))

    @classmethod
    def num_parameters(cls, width: int, options: MmolreOptions, label_space: LabelSpace) -> int:
        widths = dict.fromkeys(cls.modalities(options), width)
        with torch.device("meta"):
            network = _network(widths, label_space, options)
        return sum(p.numel() for p in network.parameters())

    def forward(self, clips: Sequences, rows: Rows) -> torch.Tensor:
        encoding = self.network.encode(clips.values, clips.masks)
        is_validated = not self.training and next(self.network.parameters()).requires_grad
        if is_validated:  # a loaded checkpoint's weights are not trained
            self._add_routing(encoding)
        return self._fused(encoding, rows)

    def _fused(self, encoding: MmolreEncoding, rows: Rows) -> torch.Tensor:
        """The tasks' outputs of the rows, one behind the other: [R, O]."""
        outputs = []
        for task, features in encoding.features.items():
            shown = rows.show(Sequences(features, encoding.masks))
            outputs.append(self.network.fuse(task, shown.values, shown.masks))
        return torch.cat(outputs, dim=-1)

    def figures(self) -> dict[str, Any]:
        """How much each expert was used since the last time, the specific one last: the mean of its
        router's weights over the clips that have the modality; by modality, block and task."""
        loads = {
            "/".join(map(str, name)): [round(share, 4) for share in (total / rows).tolist()]
            for name, (total, rows) in self._routing.items()
            if rows
        }
        self._routing = {}
        return {"expert_load": loads} if loads else {}

    def _add_routing(self, encoding: MmolreEncoding) -> None:
        for name, weights in encoding.routing.items():
            rows = weights[encoding.masks[name.modality].any(dim=1)].detach()
            total, count = self._routing.get(name, (0.0, 0))
            self._routing[name] = total + rows.sum(dim=0).cpu(), count + len(rows)

    def losses(
        self,
        thinker: Thinker,
        clips: Sequence[Any],
        subsets: Sequence[Sequence[Subset]],
        labels: Labels,
    ) -> torch.Tensor:
        """Those of the tasks, and of how unevenly the experts are used."""
        rows, sequences = self.rows(thinker, clips, subsets)
        encoding = self.network.encode(sequences.values, sequences.masks)
        outputs = rows.arrange(self._fused(encoding, rows))
        losses = head_losses(self.label_space, outputs, Labels(labels.scores))
        if labels.emotions is not None:
            emotions = emotion_losses(outputs[..., 1:], labels.emotions)
            losses = losses + self.options.emotion_weight * emotions
        if self.options.balance:
            losses = losses + self.options.balance * load_balance(encoding.routing, encoding.masks)
        return losses


def _network(feature_widths: dict[str, int], space: LabelSpace, options: MmolreOptions) -> Mmolre:
    tasks = {"emotion" if space.classes else "sentiment": len(space.classes) or 1}
    if space.emotions:
        tasks["emotions"] = len(space.emotions)
    return Mmolre(feature_widths, tasks, options.shape(max(feature_widths.values())))
