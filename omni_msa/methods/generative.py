"""The generative baseline: the score as greedily decoded text, read by a regular expression.

Each subset's answer grows behind its leaf of the same token tree, so that one prefill serves all of
them. Trained, it is taught the label's text and the end token (SFT); untrained, it is zero-shot.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from omni_msa.files.labels import LabelSpace
from omni_msa.methods.method import ONE_LABEL, Labels, Method, NoOptions, Reading, TrainedBy
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.packing import Continuation, PackedBatch, collate, grow, pack
from omni_msa.model.thinker import Thinker, take

MAX_NEW_TOKENS = 8


class Generative(Method):
    """Writes "+1.4" (or a class) and then the end token. It has no parameters of its own."""

    name = "generative"
    trained_by = TrainedBy.GRADIENTS
    is_zero_shot = True
    tasks = ONE_LABEL

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: NoOptions) -> None:
        super().__init__(thinker, label_space, options)
        self.tokenizer = thinker.processor.tokenizer
        self.end = self.tokenizer.eos_token_id

    def read(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> Reading:
        token_ids, states = greedy(thinker, thinker.batch(clips, subsets), self.end)
        answers = [
            [self.label_space.parse(self._text(tokens)) for tokens in row]
            for row in token_ids.tolist()  # [B, K, T]
        ]
        scores = torch.tensor([[answer.value for answer in row] for row in answers])
        return Reading(scores, answers=answers, states=states)

    def losses(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
        labels: Labels,
    ) -> torch.Tensor:
        """Mean cross-entropy over the tokens of each label's text and the end token."""
        trees, nodes, targets = [], [], []
        for clip, shown, row in zip(clips, subsets, labels.scores.tolist(), strict=True):
            answers = [self._tokens(value) for value in row[: len(shown)]]
            chains = [Continuation.chain(tokens[:-1]) for tokens in answers]
            tree, places = grow(pack(clip, shown), chains)
            trees.append(tree)
            nodes.append(places)
            targets.append(answers)
        hidden = thinker.states(collate(clips, trees, thinker.pad_token_id))
        losses = torch.zeros_like(labels.scores)
        for b, (places, answers) in enumerate(zip(nodes, targets, strict=True)):
            rows = torch.cat([p[: len(a)] for p, a in zip(places, answers, strict=True)])
            answer_ids = torch.tensor([t for a in answers for t in a], device=hidden.device)
            logits = thinker.logits(hidden[b, rows.to(hidden.device)])
            each = cross_entropy(logits, answer_ids, reduction="none")
            parts = each.split([len(a) for a in answers])
            losses[b, : len(answers)] = torch.stack([part.mean() for part in parts])
        return losses

    def _tokens(self, value: float) -> list[int]:
        ids = self.tokenizer(self.label_space.text(value), add_special_tokens=False)["input_ids"]
        return [*ids, self.end]

    def _text(self, tokens: list[int]) -> str:
        if self.end in tokens:
            tokens = tokens[: tokens.index(self.end)]
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def greedy(thinker: Thinker, batch: PackedBatch, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens behind every leaf, until all have ended: ids [B, K, T], T <= 8; and the
    leaves' states [B, K, H]."""
    from transformers import DynamicCache

    cache = DynamicCache(config=thinker.config.text_config)
    leaves = batch.leaves.clamp(min=0)  # [B, K]
    states = hidden = take(thinker.states(batch, cache), leaves.to(thinker.device))
    start = batch.positions.gather(2, leaves.expand(3, -1, -1))  # [3, B, K]
    allowed = batch.paths  # [B, K, what each leaf may look at so far]
    own = torch.eye(leaves.shape[1], dtype=torch.bool).expand(len(leaves), -1, -1)
    answer_ids: list[torch.Tensor] = []
    ended = batch.leaves < 0  # rows that are no subset of their clip
    for depth in range(1, MAX_NEW_TOKENS + 1):
        token_ids = thinker.logits(hidden).argmax(-1).cpu()
        answer_ids.append(token_ids.masked_fill(ended, end))
        ended = ended | (token_ids == end)
        if depth == MAX_NEW_TOKENS or bool(ended.all()):
            break
        allowed = torch.cat([allowed, own], dim=-1)
        hidden = thinker.step(answer_ids[-1], start + depth, allowed[:, None], cache)
    return torch.stack(answer_ids, dim=-1), states
