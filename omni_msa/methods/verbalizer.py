"""Zero-shot: the expectation of the label over the model's own probabilities of every label text.

The labels' tokens form a trie ("+" and "-", then the units, the point, the tenths). It grows behind
each leaf of the token tree, so one forward pass holds every probability; where labels are single
tokens this is the next-token distribution at the last position. Nothing is decoded, and every clip
gets a score. Of classes, the likeliest is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from omni_msa.files.labels import LabelSpace
from omni_msa.methods.method import ONE_LABEL, Method, NoOptions, Reading, TrainedBy
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.packing import Continuation, collate, grow, pack
from omni_msa.model.thinker import Thinker


class Verbalizer(Method):
    """Labels as the generative method writes them, in steps of a tenth. It has no parameters."""

    name = "verbalizer"
    trained_by = TrainedBy.NOTHING
    is_zero_shot = True
    tasks = ONE_LABEL

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: NoOptions) -> None:
        super().__init__(thinker, label_space, options)
        labels, tokenizer = label_space.texts(), thinker.processor.tokenizer
        token_ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in labels]
        if label_space.classes:  # the end tells "sad" from "sadness"
            token_ids = [[*label_ids, tokenizer.eos_token_id] for label_ids in token_ids]
        self.values = torch.tensor(list(labels.values()))  # [labels]
        self.trie, self.choices, self.steps = label_trie(token_ids)

    def read(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> Reading:
        trees, nodes = [], []
        for clip, shown in zip(clips, subsets, strict=True):
            tree, places = grow(pack(clip, shown), [self.trie] * len(shown))
            trees.append(tree)
            nodes.append(places)
        hidden = thinker.states(collate(clips, trees, thinker.pad_token_id))
        scores = torch.zeros(len(clips), max(map(len, subsets)))
        classes = len(self.label_space.classes)
        emotions = torch.zeros(*scores.shape, classes) if classes else None
        states = hidden.new_zeros(*scores.shape, hidden.shape[-1])
        for b, places in enumerate(nodes):  # a clip at a time: vocabularies are large
            read = hidden[b, places.to(hidden.device)]  # [K, nodes, H]
            states[b, : len(places)] = read[:, 0]  # the leaf
            logits = thinker.logits(read)  # [K, nodes, V]
            probabilities = self.probabilities(logits).cpu()  # [K, labels]
            if emotions is not None:
                emotions[b, : len(places)] = probabilities
                scores[b, : len(places)] = probabilities.argmax(-1).float()
            else:
                scores[b, : len(places)] = self.label_space.clip(probabilities @ self.values)
        return Reading(scores, emotions, states=states)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits at the trie's nodes [K, nodes, V] -> probabilities of the labels [K, labels]."""
        nodes, tokens = self.choices.to(logits.device).unbind(1)  # [choices] each
        likelihood = logits[:, nodes, tokens] - logits.logsumexp(-1)[:, nodes]
        return (likelihood @ self.steps.to(logits).T).softmax(-1)


def label_trie(
    token_ids: Sequence[Sequence[int]],
) -> tuple[Continuation, torch.Tensor, torch.Tensor]:
    """The trie of some token strings, none of which begins another.

    Returns:
        The tokens that must be shown (the last of each string is only predicted); every choice as
        (node, token) [choices, 2], node 0 being the leaf; and which choices each string makes
        [strings, choices].
    """
    nodes: dict[tuple[int, ...], int] = {(): 0}
    for tokens in token_ids:
        for end in range(1, len(tokens)):
            nodes.setdefault(tuple(tokens[:end]), len(nodes))
    prefixes = [prefix for prefix in nodes if prefix]
    trie = Continuation(
        tuple(prefix[-1] for prefix in prefixes),
        tuple(nodes[prefix[:-1]] - 1 for prefix in prefixes),
    )
    steps_of = [[(nodes[tuple(t[:end])], t[end]) for end in range(len(t))] for t in token_ids]
    choices = sorted({choice for steps in steps_of for choice in steps})
    place = {choice: i for i, choice in enumerate(choices)}
    is_step = torch.zeros(len(token_ids), len(choices))
    for row, steps in zip(is_step, steps_of, strict=True):
        row[[place[choice] for choice in steps]] = 1.0
    return trie, torch.tensor(choices), is_step
