"""MSE-Adapter (arXiv 2502.12478, AAAI 2025): pseudo tokens of voice and face, weighted by the
words, stand before them in the prompt of a frozen language model, which writes the score.

Modules, order of the prompt, loss and decoding are those of the official implementation, with its
quirks as options whose defaults are faithful. Ours: the wording of the prompt, rows that lack a
modality, the head in place of the written answer (`readout=head`), how answers are read (never with
another sign), and the Thinker's own towers as features.

Shapes: B clips, K subsets of each, R rows (the subsets of all clips), L positions, P pseudo tokens,
H width of the language model, O outputs of the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from omni_msa.errors import ConfigError, check_choice
from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Answer
from omni_msa.methods.feature_method import FeatureMethod, Rows
from omni_msa.methods.heads import head_losses, reading_of
from omni_msa.methods.layers.mse_adapter import PROJECTORS, TEXT_MEANS, AdapterShape, MseAdapter
from omni_msa.methods.method import Labels, ParameterGroup, Reading, in_weights
from omni_msa.methods.mse_prompt import LAYOUTS, PROMPTS, Prompt, parse
from omni_msa.methods.regression import mlp_head
from omni_msa.modalities import Subset
from omni_msa.model.features import FeatureBuilder, FeatureEncoder, FeatureInputs, Sequences
from omni_msa.model.language import Language, ThinkerLanguage, WordTokens
from omni_msa.model.thinker import Thinker
from omni_msa.options import LANGUAGE, MediaOptions
from omni_msa.values import ClipContent, Transcript

READOUTS = ("generative", "head")


@dataclass(frozen=True)
class MseAdapterOptions:
    """Of the adapter, its prompt, and how a score is read; by default as officially for MOSEI."""

    readout: str = "generative"  # the answer in words, or a head on the last state (ours)
    pseudo_tokens: int = in_weights(4)
    encoder: str = in_weights("lstm")  # of voice and face; "bissm" (ours): that of ECGMamba
    audio_width: int = in_weights(64)  # of the encoders
    video_width: int = in_weights(32)
    pseudo_tokens_rank: str = in_weights("two")
    prompt: str = "official"  # or "chat" (ours): in the language model's own chat template
    text_tokens: int = 50  # words are cut to so many tokens and, with prompt=official, padded
    text_mean: str = "padded"  # with prompt=official: does padding count in the words' mean?
    attention: str = "padded"  # with prompt=official: is padding before the words looked at?
    end_token: bool = False  # is the end of an answer taught?
    label_padding: str = "padded"  # is what fills up a shorter answer taught?
    language: str = "en"  # of the prompt
    context: int = 0  # turns before an utterance that are shown with its words

    def __post_init__(self) -> None:
        check_choice("readout", self.readout, READOUTS)
        check_choice("pseudo_tokens_rank", self.pseudo_tokens_rank, PROJECTORS)
        for name in ("text_mean", "attention", "label_padding"):
            check_choice(name, getattr(self, name), TEXT_MEANS)
        check_choice("language", self.language, PROMPTS)
        check_choice("prompt", self.prompt, LAYOUTS)
        for name, least in (("text_tokens", 1), ("context", 0)):
            if not least <= getattr(self, name) <= 4096:
                raise ConfigError(f"{name} must be {least} to 4096, got {getattr(self, name)}")
        self.shape()

    @property
    def pads_words(self) -> bool:
        """To one length in all prompts, because padding counts there."""
        return self.prompt == "official"

    def shape(self) -> AdapterShape:
        """Of the modules."""
        return AdapterShape(
            pseudo_tokens=self.pseudo_tokens,
            sequence_model=self.encoder,
            sequence_widths={"audio": self.audio_width, "video": self.video_width},
            text_mean=self.text_mean if self.pads_words else "masked",
            pseudo_tokens_rank=self.pseudo_tokens_rank,
        )


class DialogueBuilder(FeatureBuilder):
    """Shows the words with the turns before them, where the manifest has a column `context`."""

    def __init__(self, encoders: Mapping[str, FeatureEncoder], num_turns: int) -> None:
        super().__init__(encoders)
        self.num_turns = num_turns

    def build(
        self, content: ClipContent, options: MediaOptions, hide: Subset = frozenset()
    ) -> FeatureInputs:
        words, turns = content.parts.get("text"), content.clip.context
        if self.num_turns and turns and isinstance(words, Transcript):
            shown = "\n".join([*turns[-self.num_turns :], words.text])
            parts = {**content.parts, "text": replace(words, text=shown)}
            content = replace(content, parts=parts)
        return super().build(content, options, hide)


@dataclass(frozen=True)
class PromptRows:
    """The prompts of all rows, equally long; they begin alike, which is read once a pass."""

    start: Any  # the language model's cache of N positions; None where it shares none: N is 0
    embeddings: torch.Tensor  # [R, L, H], behind these
    mask: torch.Tensor  # [R, N + L] bool: what may be looked at


class MseAdapterMethod(FeatureMethod):
    """The language model is frozen: the adapter is trained and, if there is one, the head."""

    name = "mse-adapter"
    Options = MseAdapterOptions
    recipe = {
        "epochs": 30,
        "patience": 10,
        "batch_size": 16,
        "head_learning_rate": 5e-4,
        "warmup": 0.1,
    }

    def __init__(
        self, thinker: Thinker, label_space: LabelSpace, options: MseAdapterOptions
    ) -> None:
        super().__init__(thinker, label_space, options)
        if label_space.emotions and options.readout == "generative":
            raise ConfigError(
                f"{self.name}: one answer cannot hold a score and emotions; add --set readout=head"
            )
        self.language: Language = thinker.language or ThinkerLanguage(thinker)
        lead = PROMPTS[options.language].lead if options.prompt == "chat" else ""
        words = WordTokens(self.language, options.text_tokens, options.context > 0, lead)
        encoders = self.features.encoders | {"text": words}
        self.features = DialogueBuilder(encoders, options.context)
        widths = {n: width for n, width in self.feature_widths.items() if n != "text"}
        self.adapter = MseAdapter(self.language.width, widths, options.shape())
        if options.readout == "head":
            self.head = mlp_head(self.language.width, outputs=label_space.num_outputs)
        self.prompt = Prompt(self.language, label_space, options.language, options.prompt)

    @classmethod
    def trains_through_base(cls, options: MseAdapterOptions) -> bool:
        return True  # to the pseudo tokens

    @classmethod
    def replaceable(cls, options: MseAdapterOptions) -> frozenset[str]:
        return frozenset({"audio", "video", LANGUAGE})

    @classmethod
    def num_parameters(cls, width: int, options: MseAdapterOptions, label_space: LabelSpace) -> int:
        with torch.device("meta"):
            adapter = MseAdapter(width, {"audio": width, "video": width}, options.shape())
            head = mlp_head(width, outputs=label_space.num_outputs)
        parts = (adapter, head) if options.readout == "head" else (adapter,)
        return sum(p.numel() for part in parts for p in part.parameters())

    def parameter_groups(self, learning_rate: float) -> list[ParameterGroup]:
        """With the official implementation's epsilon."""
        return [ParameterGroup(list(self.parameters()), learning_rate, eps=1e-4)]

    def read(
        self, thinker: Thinker, clips: Sequence[Any], subsets: Sequence[Sequence[Subset]]
    ) -> Reading:
        rows = Rows.of(subsets, list(self.features.encoders))
        prompts = self._prompts(thinker, clips, rows)
        if self.options.readout == "head":
            return reading_of(self.label_space, rows.arrange(self._outputs(prompts)))
        answers = [self._answer(tokens) for tokens in self._greedy(prompts).tolist()]
        scores = torch.tensor([[answer.value] for answer in answers])
        by_clip: list[list[Answer]] = [[] for _ in clips]
        for clip, answer in zip(rows.clips.tolist(), answers, strict=True):
            by_clip[clip].append(answer)
        return Reading(rows.arrange(scores)[..., 0], answers=by_clip)

    def losses(
        self,
        thinker: Thinker,
        clips: Sequence[Any],
        subsets: Sequence[Sequence[Subset]],
        labels: Labels,
    ) -> torch.Tensor:
        """Of the head, or the mean cross-entropy of the tokens of each label's text."""
        rows = Rows.of(subsets, list(self.features.encoders))
        prompts = self._prompts(thinker, clips, rows)
        if self.options.readout == "head":
            outputs = rows.arrange(self._outputs(prompts))
            return head_losses(self.label_space, outputs, labels)
        values = labels.scores[rows.clips, rows.places].tolist()
        return rows.arrange(self._answer_losses(prompts, values)[:, None])[..., 0]

    def forward(self, clips: Sequences, rows: Rows) -> torch.Tensor:
        """The adapter has a forward of its own; rows are prompts here."""
        raise NotImplementedError

    # --- prompts ---------------------------------------------------------------------------------

    def _prompts(self, thinker: Thinker, clips: Sequence[FeatureInputs], rows: Rows) -> PromptRows:
        """What begins the prompt, pseudo tokens, words, what ends it; a row a subset."""
        modalities = list(self.adapter.encoders)
        features = self.features.sequences(clips, modalities, thinker.device)
        words = [
            clips[b].items["text"].tolist() if is_shown else []
            for b, is_shown in zip(rows.clips.tolist(), rows.shown["text"].tolist(), strict=True)
        ]
        word_ids, word_mask = self._padded_words(words)
        embeddings = self.language.embed(word_ids)
        word_mask = word_mask.to(embeddings.device)
        pseudo = self.adapter(
            embeddings.float(), word_mask, features.values, features.masks, rows.clips, rows.shown
        )
        if self.options.pads_words and self.options.attention == "padded":
            word_mask = word_mask.any(1, keepdim=True).expand_as(word_mask)
        after = self.language.embed(torch.tensor(self.prompt.after)).expand(len(words), -1, -1)
        shown_whole = [
            torch.ones(len(words), length, dtype=torch.bool, device=word_mask.device)
            for length in (len(self.prompt.before) + pseudo.shape[1], after.shape[1])
        ]
        before = self.language.embed(torch.tensor([self.prompt.before]))
        start = self.language.read_for_all(before, len(words))
        parts = [pseudo.to(embeddings.dtype), embeddings, after]
        if start is None:
            parts.insert(0, before.expand(len(words), -1, -1))
        mask = torch.cat([shown_whole[0], word_mask, shown_whole[1]], dim=1)
        return PromptRows(start, torch.cat(parts, dim=1), mask)

    def _padded_words(self, words: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask [R, L], padded on the left to the length that words are cut to, or to that
        of the longest."""
        length = self.options.text_tokens
        if not self.options.pads_words:
            length = max(1, *map(len, words))
        ids = torch.full((len(words), length), self.language.pad)
        mask = torch.zeros(len(words), length, dtype=torch.bool)
        for row, tokens in enumerate(words):
            if tokens:
                ids[row, -len(tokens) :] = torch.tensor(tokens)
                mask[row, -len(tokens) :] = True
        return ids, mask

    # --- answers ---------------------------------------------------------------------------------

    def _outputs(self, prompts: PromptRows) -> torch.Tensor:
        """The head's [R, O] on the last states."""
        states = self.language.states(prompts.embeddings, prompts.mask, prompts.start)[:, -1]
        with torch.autocast(states.device.type, enabled=False):
            return self.head(states.float())

    def _answer_losses(self, prompts: PromptRows, values: Sequence[float]) -> torch.Tensor:
        """The mean cross-entropy of each row's answer [R]."""
        answers = [self.prompt.answer_ids(value, self.options.end_token) for value in values]
        longest = self.prompt.longest + self.options.end_token
        ids = torch.full((len(answers), longest), self.language.pad)
        is_taught = torch.full(ids.shape, self.options.label_padding == "padded")
        for row, tokens in enumerate(answers):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            is_taught[row, : len(tokens)] = True
        embeddings = self.language.embed(ids[:, :-1])
        shown = torch.cat([prompts.embeddings, embeddings], dim=1)
        mask = torch.ones(len(ids), longest - 1, dtype=torch.bool, device=prompts.mask.device)
        mask = torch.cat([prompts.mask, mask], dim=1)
        hidden = self.language.states(shown, mask, prompts.start)
        logits = self.language.logits(hidden[:, -longest:])  # [R, longest, V]
        ids, is_taught = ids.to(logits.device), is_taught.to(logits.device)
        each = cross_entropy(logits.movedim(-1, 1), ids, reduction="none")
        return (each * is_taught).sum(1) / is_taught.sum(1)

    def _greedy(self, prompts: PromptRows) -> torch.Tensor:
        """The likeliest tokens behind each prompt, as many as the longest answer has: [R, T]."""
        cache = self.language.cache() if prompts.start is None else prompts.start
        mask = prompts.mask
        hidden = self.language.states(prompts.embeddings, mask, cache)[:, -1]
        answer = [self.language.logits(hidden).argmax(-1)]
        one = torch.ones(len(mask), 1, dtype=torch.bool, device=mask.device)
        for _ in range(self.prompt.longest + self.options.end_token - 1):
            mask = torch.cat([mask, one], dim=1)
            embeddings = self.language.embed(answer[-1][:, None])
            hidden = self.language.states(embeddings, mask, cache)[:, -1]
            answer.append(self.language.logits(hidden).argmax(-1))
        return torch.stack(answer, dim=1)

    def _answer(self, tokens: list[int]) -> Answer:
        if self.language.end in tokens:
            tokens = tokens[: tokens.index(self.language.end)]
        text = self.language.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return parse(text, self.label_space)
