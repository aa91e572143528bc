"""The network of MMoLRE (arXiv 2505.14143): low-rank experts for several tasks at once.

Its full text and code were not available. The outline is that of a third-party review of
it: text and audio; two stacked blocks a modality (UniTSE), of which the first gets the same
features for each task and the second the tasks' own; in each block N shared experts and, for each
task, a specific one and a router; an expert is two convolutions over time, of kernel 3 and 1, with
a bottleneck between them; then a fusion and an output layer for each task.

OURS, because nothing about it was found: N and the rank, GELU, a dense softmax router on the mean
that has the specific expert in it, the residual and a LayerNorm for each task, no bias in router
and gate, the whole fusion (cross-attention, residual, mean, gate), linear output layers,
video as a third modality, the balance term. No number of the paper is claimed for it.

Shapes: R rows (one clip with one subset of its modalities each), L steps, D width, T tasks,
M modalities, N shared experts, K experts under a router (N + 1), O outputs of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import gelu, linear, pad

from omni_msa.errors import ConfigError, check_choice
from omni_msa.methods.layers.masking import (
    CrossAttention,
    clean_inputs,
    masked_mean,
    zero_padding,
)

NUM_BLOCKS = 2

# What tasks have in common; all but "mixed" are ablations.
SHARING = {
    "mixed": "N shared experts, and a specific one for each task",
    "hard": "one trunk of N + 1 experts with one router: tasks get the same features",
    "shared": "N shared experts, which each task routes for itself",
    "specific": "one expert for each task, with weight 1",
}


@dataclass(frozen=True)
class MmolreShape:
    """Choices that fix the layers; all defaults are ours."""

    width: int = 768  # D, common to the modalities
    experts: int = 4  # N
    rank: int = 64
    sharing: str = "mixed"  # a key of SHARING
    full_rank: bool = False  # experts as wide inside as outside
    heads: int = 8  # at most: fewer where the width does not divide by it

    def __post_init__(self) -> None:
        check_choice("sharing", self.sharing, SHARING)
        for name in ("width", "experts", "rank", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")

    @property
    def expert_rank(self) -> int:
        return self.width if self.full_rank else self.rank

    @property
    def num_shared(self) -> int:
        return 0 if self.sharing == "specific" else self.experts

    @property
    def has_specific(self) -> bool:
        return self.sharing != "shared"

    @property
    def num_routed(self) -> int:
        """K: experts under one router."""
        return self.num_shared + self.has_specific

    @property
    def num_heads(self) -> int:
        """The largest divisor of the width up to `heads`."""
        return max(n for n in range(1, self.heads + 1) if self.width % n == 0)


class RouterName(NamedTuple):
    """Which router some weights come from."""

    modality: str
    block: int  # from 0
    task: str


@dataclass(frozen=True)
class MmolreEncoding:
    """Features [R, L, D] by task and modality, masks [R, L], and routers' weights [R, K], the
    specific expert's last.

    Rows without the router's modality have equal weights. With sharing "hard", tasks have the same.
    """

    features: dict[str, dict[str, torch.Tensor]]
    masks: dict[str, torch.Tensor]
    routing: dict[RouterName, torch.Tensor]


class LowRankExperts(nn.ModuleList):
    """Experts side by side, each a Conv1d of kernel 3, D -> rank; GELU; one of kernel 1, rank -> D.

    4 D rank + rank + D parameters each; at full rank (rank = D) 4 D^2 + 2 D.
    """

    def __init__(self, count: int, width: int, rank: int) -> None:
        super().__init__(LowRankExpert(width, rank) for _ in range(count))
        self.rank = rank

    def __iter__(self) -> Iterator[LowRankExpert]:
        return cast("Iterator[LowRankExpert]", super().__iter__())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values [R, L, D], zero in the padding: their bottlenecks [R, L, experts, rank]."""
        if not len(self):
            return values.new_zeros(*values.shape[:2], 0, self.rank)
        padded = pad(values, (0, 0, 1, 1))
        around = torch.cat([padded[:, :-2], values, padded[:, 2:]], dim=-1)  # [R, L, 3 D]
        weight = torch.cat([expert.inner.weight for expert in self])  # [experts * rank, D, 3]
        bias = torch.cat([_bias(expert.inner) for expert in self])
        hidden = linear(around, weight.transpose(1, 2).flatten(1), bias)
        return gelu(hidden).unflatten(-1, (len(self), self.rank))


class LowRankExpert(nn.Module):
    """The two convolutions of one expert."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.inner = nn.Conv1d(width, rank, kernel_size=3, padding=1)
        self.outer = nn.Conv1d(rank, width, kernel_size=1)


def mixture(
    experts: Sequence[LowRankExpert], hidden: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The experts' outputs [R, L, D] of their bottlenecks [R, L, K, rank], weighted [R, K].

    Weights come before the outer convolutions, which are linear: one product is then the sum.
    """
    weighted = (hidden * weights[:, None, :, None]).flatten(2)  # [R, L, K * rank]
    outer = torch.cat([expert.outer.weight[..., 0] for expert in experts], dim=1)
    bias = weights @ torch.stack([_bias(expert.outer) for expert in experts])  # [R, D]
    return linear(weighted, outer) + bias[:, None]


def _bias(convolution: nn.Conv1d) -> torch.Tensor:
    assert convolution.bias is not None
    return convolution.bias


class TaskBranch(nn.Module):
    """What a block has for one task: its router, its specific expert (if any) and LayerNorm."""

    def __init__(self, shape: MmolreShape) -> None:
        super().__init__()
        self.router = nn.Linear(shape.width, shape.num_routed, bias=False)
        num_specific = int(shape.has_specific)
        self.specific = LowRankExperts(num_specific, shape.width, shape.expert_rank)
        self.norm = nn.LayerNorm(shape.width)

    def forward(
        self,
        values: torch.Tensor,
        shared: LowRankExperts,
        hidden: torch.Tensor,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The task's features [R, L, D] and its router's weights [R, K].

        Args:
            hidden: the shared experts' bottlenecks of the values [R, L, N, rank].
        """
        weights = self.router(masked_mean(values, mask)).softmax(dim=-1)
        hidden = torch.cat([hidden, self.specific(values)], dim=2)
        values = values + mixture([*shared, *self.specific], hidden, weights)
        return zero_padding(self.norm(values), mask), weights


class ExpertBlock(nn.Module):
    """Shared experts, and a branch for each task (one for all of them with sharing "hard")."""

    def __init__(self, tasks: Sequence[str], shape: MmolreShape) -> None:
        super().__init__()
        self.shared = LowRankExperts(shape.num_shared, shape.width, shape.expert_rank)
        names = ["all"] if shape.sharing == "hard" else tasks
        self.branches = nn.ModuleDict({name: TaskBranch(shape) for name in names})

    def forward(
        self, features: list[torch.Tensor], mask: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Features [R, L, D] and weights [R, K] of each branch.

        Args:
            features: one tensor [R, L, D] for each branch, or one for all.
        """
        hidden = [self.shared(values) for values in features]
        if len(features) == 1:  # in common: shared experts run once
            features, hidden = features * len(self.branches), hidden * len(self.branches)
        branches = zip(self.branches.values(), features, hidden, strict=True)
        pairs = [branch(values, self.shared, inner, mask) for branch, values, inner in branches]
        return [values for values, _ in pairs], [weights for _, weights in pairs]


class UniTse(nn.Module):
    """Two stacked blocks that turn the sequence of one modality into one for each task."""

    def __init__(self, tasks: Sequence[str], shape: MmolreShape) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.blocks = nn.ModuleList(ExpertBlock(tasks, shape) for _ in range(NUM_BLOCKS))

    def forward(
        self, values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
        """Of values [R, L, D]: features [R, L, D] by task; weights [R, K] by block and task."""
        features, routing = [values], []
        for block in self.blocks:
            features, weights = block(features, mask)
            routing.append(self._by_task(weights))
        return self._by_task(features), routing

    def _by_task(self, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        if len(tensors) == 1:
            tensors = tensors * len(self.tasks)
        return dict(zip(self.tasks, tensors, strict=True))


class TaskFusion(nn.Module):
    """The modalities' sequences of one task become one vector.

    Each modality reads the others (one cross-attention over all of their steps) and adds that to
    itself. Of the means, a linear map gives each modality a weight for each feature: the softmax
    over those that the row has. With two of them, that is the sigmoid of the logits' difference.
    """

    def __init__(self, modalities: Sequence[str], shape: MmolreShape) -> None:
        super().__init__()
        self.modalities = list(modalities)
        self.attention = nn.ModuleDict(
            {name: CrossAttention(shape.width, shape.num_heads) for name in modalities}
        )
        joint_width = len(modalities) * shape.width
        self.gate = nn.Linear(joint_width, joint_width, bias=False)

    def forward(
        self, values: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Values [R, L, D] and masks [R, L] by modality: [R, D], zero in rows without any."""
        means = torch.stack([self._mean(name, values, masks) for name in self.modalities], dim=1)
        present = torch.stack([masks[name].any(dim=1) for name in self.modalities], dim=1)
        logits = self.gate(means.flatten(1)).view_as(means)  # [R, M, D]
        # The lowest number instead of minus infinity: no NaN in rows without any modality.
        logits = logits.masked_fill(~present[..., None], torch.finfo(logits.dtype).min)
        return (logits.softmax(dim=1) * means).sum(dim=1)

    def _mean(
        self, name: str, values: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """The mean [R, D] of a modality that has read the others."""
        others = [other for other in self.modalities if other != name]
        keys = torch.cat([values[other] for other in others], dim=1)
        mask = torch.cat([masks[other] for other in others], dim=1)
        own = values[name]
        return masked_mean(own + self.attention[name](own, keys, mask), masks[name])


class Mmolre(nn.Module):
    """Sequences of two or more modalities become the outputs of one or more tasks.

    Args:
        feature_widths: by modality; a linear layer takes one to the common width, if it has
            another.
        outputs: how many numbers each task has, such as `{"sentiment": 1, "emotions": 6}`.

    Raises:
        ConfigError: fewer than two modalities, or no task.
    """

    def __init__(
        self,
        feature_widths: Mapping[str, int],
        outputs: Mapping[str, int],
        shape: MmolreShape | None = None,
    ) -> None:
        super().__init__()
        shape = shape or MmolreShape()
        if len(feature_widths) < 2 or not outputs:
            raise ConfigError(
                "MMoLRE takes two modalities or more and one task or more, got "
                f"{len(feature_widths)} and {len(outputs)}"
            )
        tasks, modalities, width = list(outputs), list(feature_widths), shape.width
        self.projections = nn.ModuleDict(
            {
                name: nn.Identity() if own == width else nn.Linear(own, width)
                for name, own in feature_widths.items()
            }
        )
        self.encoders = nn.ModuleDict({name: UniTse(tasks, shape) for name in modalities})
        self.fusions = nn.ModuleDict({task: TaskFusion(modalities, shape) for task in tasks})
        self.heads = nn.ModuleDict({task: nn.Linear(width, outputs[task]) for task in tasks})

    def encode(
        self, values: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]
    ) -> MmolreEncoding:
        """What UniTSE makes of each modality: it is the same whatever other ones there are.

        Args:
            values: [R, L, D_m] by modality; in the precision of the weights from here on.
            masks: [R, L] by modality.
        """
        parameter = next(self.parameters())
        features: dict[str, dict[str, torch.Tensor]] = {task: {} for task in self.heads}
        routing: dict[RouterName, torch.Tensor] = {}
        with torch.autocast(parameter.device.type, enabled=False):
            values, masks = clean_inputs(values, masks, self.encoders, parameter.dtype)
            for name, encoder in self.encoders.items():
                own = zero_padding(self.projections[name](values[name]), masks[name])
                by_task, blocks = encoder(own, masks[name])
                for task in self.heads:
                    features[task][name] = by_task[task]
                for number, weights in enumerate(blocks):
                    routing |= {RouterName(name, number, task): weights[task] for task in weights}
        return MmolreEncoding(features, dict(masks), routing)

    def fuse(
        self,
        task: str,
        features: Mapping[str, torch.Tensor],
        masks: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """A task's outputs [R, O] of its features [R, L, D] and masks [R, L] by modality."""
        device = next(self.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return self.heads[task](self.fusions[task](features, masks))


def load_balance(
    routing: Mapping[RouterName, torch.Tensor], masks: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """How unevenly experts are used: from 1 (all alike) to K (one alone), the mean of the routers.

    Of one router it is K times the sum, over its experts, of their squared mean weight over the
    rows that have the modality; without such rows it is 0. The term and the mean are ours.

    Args:
        masks: of each modality [R, L].
    """
    terms = []
    for router, weights in routing.items():
        present = masks[router.modality].any(dim=1, keepdim=True)
        mean = (weights * present).sum(dim=0) / present.sum().clamp(min=1)
        terms.append(weights.shape[-1] * mean.square().sum())
    return torch.stack(terms).mean()
