"""The Thinker: a base in memory, the adapter that is used on it, and the one packed forward pass.

Shapes: B clips, K subsets, L tokens of a tree, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch

from omni_msa.modalities import Subset
from omni_msa.model.attention import attend_along_trees
from omni_msa.model.encoders import ENCODERS
from omni_msa.model.inputs import InputBuilder, ThinkerInputs
from omni_msa.model.packing import PackedBatch, collate, looks_at, pack
from omni_msa.model.prompt import QUESTION
from omni_msa.options import LANGUAGE

MAX_MERGED = 10**9  # weights of which a second copy is held

if TYPE_CHECKING:
    from omni_msa.model.features import FeatureEncoder
    from omni_msa.model.language import Language


@dataclass(frozen=True)
class LoadedBase:
    """Where the weights came from and how they are held."""

    name: str  # as the user wrote it: "tiny", a folder, or a hub id
    folder: Path
    quantize: str  # none, 4bit or 8bit: what was really done
    device: str

    def holds(self, folder: Path, quantize: str, device: str) -> bool:
        """Whether it is that folder's weights, held in that way."""
        same_folder = self.folder.resolve() == folder.resolve()
        return same_folder and (self.quantize, self.device) == (quantize, device)

    @property
    def lasting_name(self) -> str:
        """How a checkpoint names its base: a folder by its whole path, wherever it is used."""
        return str(Path(self.name).resolve()) if self.folder == Path(self.name) else self.name


@dataclass
class SharedModel:
    """A base in memory, with every adapter that was put on it; one of them, or none, is active.

    One thread computes at a time: which adapter is active is a state of the base.
    """

    model: Any  # Qwen2_5OmniThinkerForConditionalGeneration, or PEFT around it
    active: str | None = None
    lock: Any = field(default_factory=RLock, repr=False)  # held by who computes with it
    originals: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list, repr=False)

    def activate(self, adapter: str | None) -> None:
        """Computes with this adapter from now on; with None, as if there were none."""
        if adapter == self.active:
            return
        self.unmerge()
        if adapter is None:
            self.model.base_model.disable_adapter_layers()
        else:
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(adapter, inference_mode=True)
        self.active = adapter

    def merge(self) -> None:
        """Adds the active adapter to the weights, until another is to be active: one product a
        layer instead of three. Only of small weights in float32, of which a copy is kept; in
        others, adding would round the adapter away."""
        layers = [m for m in self.model.modules() if hasattr(m, "lora_A")]
        weights = [layer.get_base_layer().weight for layer in layers]
        is_small = sum(weight.numel() for weight in weights) <= MAX_MERGED
        if not self.originals and is_small and all(w.dtype == torch.float32 for w in weights):
            self.originals = [(weight, weight.detach().clone()) for weight in weights]
            self.model.merge_adapter([self.active])

    def unmerge(self) -> None:
        """The base's own weights again, to the last bit."""
        if self.originals:
            self.model.unmerge_adapter()
            for weight, original in self.originals:
                weight.data.copy_(original)
            self.originals = []


class Thinker:
    """Qwen2.5-Omni's understanding half, with its processor.

    Several may share one base in memory, each with an adapter of its own (see `beside`).
    """

    def __init__(self, model: Any, processor: Any, base: LoadedBase) -> None:
        self.shared = SharedModel(model)
        attend_along_trees(self.core.model.language_model)
        self.processor = processor
        self.base = base
        self.config = model.config
        self.adapter: str | None = None
        # what was named in place of its own towers and language model, for methods that take them
        self.encoders: dict[str, FeatureEncoder] = {}
        self.language: Language | None = None
        pad = processor.tokenizer.pad_token_id
        self.pad_token_id = pad if pad is not None else 0

    def beside(self, name: str, folder: Path) -> Thinker:
        """Another Thinker on the same weights in memory, without an adapter.

        Args:
            name, folder: of the base, as the user wrote them this time.
        """
        other = copy(self)
        other.base = replace(self.base, name=name, folder=folder)
        other.adapter = None
        other.encoders, other.language = {}, None
        return other

    def named_parts(self) -> dict[str, dict[str, str]]:
        """Name and identity of what stands in place of its own parts, as a checkpoint has them."""
        parts: dict[str, Any] = dict(self.encoders)
        if self.language is not None:
            parts[LANGUAGE] = self.language
        return {key: {"name": p.name, "identity": p.identity} for key, p in parts.items()}

    @property
    def model(self) -> Any:
        """The transformers model, or PEFT around it."""
        return self.shared.model

    @property
    def adapted(self) -> bool:
        """Whether it computes with a LoRA adapter."""
        return self.adapter is not None

    @property
    def core(self) -> Any:
        """The transformers model itself, with any LoRA layers already inside it."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def builder(self, question: str = QUESTION) -> InputBuilder:
        """What turns clips into inputs for it, with this question before each of them."""
        return InputBuilder(self.processor, self.config, question)

    @property
    def width(self) -> int:
        return self.config.text_config.hidden_size

    @property
    def device(self) -> torch.device:
        return self.core.get_input_embeddings().weight.device

    def batch(
        self,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
        padding_side: str = "right",
    ) -> PackedBatch:
        """Packs each clip's subsets and pads the trees to one length."""
        trees = [pack(clip, shown) for clip, shown in zip(clips, subsets, strict=True)]
        return collate(clips, trees, self.pad_token_id, padding_side)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Hidden states at the last non-padding token of every subset: [B, K, H].

        Towers run once a clip; the language model runs exactly once. Rows of subsets that a clip
        does not have (see `PackedBatch`) hold nothing of use.
        """
        hidden = self.states(batch)
        return take(hidden, batch.leaves.to(self.device).clamp(min=0))

    def states(self, batch: PackedBatch, cache: Any = None) -> torch.Tensor:
        """Hidden states of every token of the trees, in one pass: [B, L, H].

        With a transformers cache, keys and values are kept for `step`.
        """
        enter, exits = batch.enter.to(self.device), batch.exit.to(self.device)
        allowed = looks_at(enter[:, batch.trunk :], enter, exits)[:, None]
        return self.continue_with(
            self.embed(batch), allowed, batch.positions, cache, trunk=batch.trunk
        )

    def step(
        self, token_ids: torch.Tensor, positions: torch.Tensor, allowed: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        """One more token behind each leaf: ids [B, K], positions [3, B, K], and which of the
        tokens so far each of them sees, [B, 1, K, L + K * steps]. Gives hidden states [B, K, H]."""
        embeddings = self.core.get_input_embeddings()(token_ids.to(self.device))
        return self.continue_with(embeddings, allowed, positions, cache)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """What comes next, over the vocabulary: hidden [..., H] -> [..., V] in fp32."""
        head = self.core.lm_head
        return head(hidden.to(head.weight.dtype)).float()

    def continue_with(
        self,
        embeddings: torch.Tensor,
        allowed: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        trunk: int = 0,
    ) -> torch.Tensor:
        """Final states [B, N, H] of N embeddings [B, N, H], behind the L tokens that a cache holds.

        Args:
            allowed: which tokens each of them sees, [B, 1, N - trunk, L + N] bool.
            positions: [3, B, N].
            trunk: so many of the first see every one before them; only where L is 0.
        """
        self.shared.activate(self.adapter)
        # as a dict it is taken as it is (see `attention.py`)
        mask = allowed.to(self.device) if allowed.shape[2] else None
        return self.core.model.language_model(
            inputs_embeds=embeddings,
            attention_mask={"full_attention": mask},
            position_ids=positions.to(self.device),
            past_key_values=cache,
            use_cache=cache is not None,
            trunk=trunk,
        ).last_hidden_state

    def embed(self, batch: PackedBatch) -> torch.Tensor:
        """Token embeddings with what the towers saw and heard in their places: [B, L, H]."""
        self.shared.activate(self.adapter)
        token_ids = batch.token_ids.to(self.device)
        embeddings = self.core.get_input_embeddings()(token_ids)
        for modality, encoder in ENCODERS.items():
            shown = [
                b
                for b, (clip, subsets) in enumerate(zip(batch.clips, batch.subsets, strict=True))
                if modality in clip.features and any(modality in subset for subset in subsets)
            ]
            if encoder.embed is None or not shown:
                continue
            token_id = getattr(self.config, encoder.placeholder)
            rows = []
            # A part that stands on several branches of a clip's tree is the same part each time.
            features = encoder.embed(self, [batch.clips[b].features[modality] for b in shown])
            for b, feature in zip(shown, features, strict=True):
                count = int((batch.token_ids[b] == token_id).sum())
                if count % len(feature):
                    raise ValueError(f"{count} tokens of {modality}, {len(feature)} features")
                rows.append(feature.repeat(count // len(feature), 1))
            mask = (token_ids == token_id)[..., None]
            embeddings = embeddings.masked_scatter(mask, torch.cat(rows).to(embeddings.dtype))
        return embeddings


def take(hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows of hidden states: [B, L, H] at places [B, K] -> [B, K, H]."""
    return hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))
