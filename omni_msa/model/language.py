"""A frozen language model that is given embeddings: the Thinker's own, or that of a folder.

Shapes: R rows, L positions, H width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from omni_msa.errors import ModelError, first_line
from omni_msa.model.features import FeatureEncoder
from omni_msa.model.identity import folder_sha256
from omni_msa.model.limits import check_files, check_weights, read_settings
from omni_msa.model.loading import UNLOADABLE, quantization_config, quiet_loading
from omni_msa.model.packing import chain_numbers, looks_at
from omni_msa.model.prompt import (
    QUESTION,
    PromptFrame,
    render_frame,
    render_text_frame,
    safe_transcript,
)
from omni_msa.model.thinker_features import words_of
from omni_msa.options import MediaOptions
from omni_msa.values import FeatureSequence

if TYPE_CHECKING:
    from omni_msa.model.thinker import Thinker


class Language(ABC):
    """What a method needs of a language model. Rows are padded on the left.

    Attributes:
        tokenizer: its own.
        width: H.
        start: the token ids that begin a text; none for some models.
        end: the id of the token that ends an answer.
        cue: what stands before an answer.
        name: what it was named by; "" of the Thinker's own.
        identity: a text that differs whenever its weights would.
    """

    tokenizer: Any
    width: int
    start: list[int]
    end: int
    cue: str = "\nAssistant: "
    name: str = ""
    identity: str
    _shares: bool = True

    @property
    def pad(self) -> int:
        """The id that stands for nothing: its own, else that of the end (as Qwen-1.8B has it)."""
        pad = self.tokenizer.pad_token_id
        return self.end if pad is None else int(pad)

    def tokens(self, text: str) -> list[int]:
        """The ids of a text, without special ones."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    @abstractmethod
    def frame(self, question: str) -> PromptFrame:
        """What its own chat template puts before and behind what it is shown, with the question.

        Raises:
            ModelError: it has no such template.
        """

    @abstractmethod
    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Ids [..., L] -> embeddings [..., L, H]."""

    @abstractmethod
    def states(self, embeddings: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        """Final states [R, L, H] of embeddings [R, L, H], behind those that the cache holds.

        Args:
            mask: what may be looked at, of the cache too: [R, all positions] bool.
            cache: a transformers cache, which keeps keys and values; None for a single pass.
        """

    @abstractmethod
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """States [..., H] -> logits [..., V] in fp32."""

    @abstractmethod
    def cache(self) -> Any:
        """An empty cache."""

    @torch.no_grad()
    def read_for_all(self, embeddings: torch.Tensor, num_rows: int) -> Any:
        """The cache of a text [1, L, H] that all rows begin with; None where the model keeps more
        than keys and values, or none, so that rows cannot share it."""
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        if not self._shares:
            return None
        cache, plain = self.cache(), (DynamicLayer, DynamicSlidingWindowLayer)
        mask = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        self.states(embeddings, mask, cache)
        holds_all = cache.get_seq_length() == embeddings.shape[1]
        self._shares = holds_all and all(type(layer) in plain for layer in cache.layers)
        if not self._shares:
            return None
        cache.batch_repeat_interleave(num_rows)
        return cache


class WordTokens(FeatureEncoder):
    """Token ids of the words, for a method that puts them into its own prompt.

    Args:
        most: longer words are cut, with a warning.
        keeps_end: at their beginning, as behind other turns of a dialogue.
        lead: what stands before them, and is not counted.
    """

    is_frozen = False  # nothing is made before the method has its prompt

    def __init__(
        self, language: Language, most: int, keeps_end: bool = False, lead: str = ""
    ) -> None:
        self.language = language
        self.most = most
        self.keeps_end = keeps_end
        self.lead = language.tokens(lead)
        self.width = language.width
        self.identity = f"words {most} {language.identity}"

    def prepare(self, part: Any, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        words = words_of(part) if isinstance(part, FeatureSequence) else part
        safe, warning = safe_transcript(words.text)
        ids, warnings = self.language.tokens(safe), [warning] if warning else []
        if len(ids) > self.most:
            warnings.append(f"transcript truncated: {self.most} of {len(ids)} tokens shown")
        cut = ids[-self.most :] if self.keeps_end else ids[: self.most]
        return torch.tensor([*self.lead, *cut], dtype=torch.long), tuple(warnings)

    def encode(self, items: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        return [self.language.embed(ids).float() for ids in items]


class ThinkerLanguage(Language):
    """The Thinker's language model, without any adapter."""

    def __init__(self, thinker: Thinker) -> None:
        self.thinker = thinker
        self.tokenizer = thinker.processor.tokenizer
        self.width = thinker.width
        self.start = self.tokens("<|im_start|>")
        self.end = self.tokenizer.eos_token_id
        self.cue = self.frame(QUESTION).suffix
        self.identity = ""  # the base's own

    def frame(self, question: str) -> PromptFrame:
        return render_frame(self.thinker.processor, question)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self.thinker.core.get_input_embeddings()(token_ids.to(self.thinker.device))

    def states(self, embeddings: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        new = embeddings.shape[1]
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -new:].expand(3, -1, -1)
        enter, exits = chain_numbers(mask)
        allowed = looks_at(enter[:, -new:], enter, exits)[:, None]  # [R, 1, new, all]
        return self.thinker.continue_with(embeddings, allowed, positions, cache)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.thinker.logits(hidden)

    def cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.thinker.config.text_config)


class FolderLanguage(Language):
    """Any causal language model in a Hugging Face folder, 4-bit on request.

    Raises:
        ModelError: no such folder, no causal language model, damaged, or without safetensors.
    """

    def __init__(self, name: str, quantize: str, device: str) -> None:
        folder, label = Path(name), f"language model {name}"
        if not folder.is_dir():
            raise ModelError(
                f"{label}: no such folder; give one in the layout of the Hugging Face hub "
                "(config.json, the tokenizer's files, *.safetensors)"
            )
        read_settings(label, folder / "config.json")
        check_files(name, folder)
        check_weights(label, folder, 0)
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            with quiet_loading():
                self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                result: Any = AutoModelForCausalLM.from_pretrained(
                    folder,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype=torch.bfloat16 if device == "cuda" else torch.float32,
                    quantization_config=quantization_config(quantize, device),
                    device_map=device if quantize != "none" or device == "cuda" else None,
                    output_loading_info=True,
                )
        except UNLOADABLE as error:
            raise ModelError(f"{label}: {first_line(error)}") from error
        self.model, info = result
        if info["missing_keys"]:
            missing = sorted(info["missing_keys"])
            raise ModelError(f"{label}: {len(missing)} weights are missing, such as {missing[0]}")
        if self.tokenizer.eos_token_id is None:
            raise ModelError(f"{label}: its tokenizer has no token that ends a text")
        self.model.eval().requires_grad_(False)
        self.name = str(folder.resolve())
        self.width = self.model.config.get_text_config().hidden_size
        start = self.tokenizer.bos_token_id
        if start is None:  # Qwen's, which begin a text with that of a chat
            start = self.tokenizer.get_vocab().get("<|im_start|>")
        self.start = [] if start is None else [start]
        self.end = self.tokenizer.eos_token_id
        self.identity = f"language {folder_sha256(folder)} {quantize} {self.start}"

    def frame(self, question: str) -> PromptFrame:
        try:
            return render_text_frame(self.tokenizer, question)
        except ModelError as error:
            raise ModelError(f"language model {self.name}: {error}") from error

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(token_ids.to(self.model.device))

    def states(self, embeddings: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        new = embeddings.shape[1]
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -new:]
        return self.model.base_model(
            inputs_embeds=embeddings,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        head = self.model.get_output_embeddings()
        return head(hidden.to(head.weight.dtype)).float()

    def cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)
