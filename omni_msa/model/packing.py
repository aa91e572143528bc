"""Subsets of a clip -> one token tree, scored in one forward pass.

The prompt's parts come in a fixed order (video, audio, transcript), so the sequences of a clip's
subsets form a prefix tree: what two subsets share is computed once. Each token attends to its
ancestors only and keeps the position it would have alone, so every leaf ends with the hidden state
that a separate pass would give it:

    prefix ─┬─ video ─┬─ audio ─┬─ text ── suffix   TAV
            │         │         └───────── suffix   AV
            │         ├─ text ──────────── suffix   TV
            │         └─────────────────── suffix   V
            ├─ audio ─┬─ text …                      TA, A
            └─ text …                                T, nothing

Shapes: B clips, K subsets, L tokens of a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from omni_msa.modalities import Subset
from omni_msa.model.encoders import ENCODERS
from omni_msa.model.inputs import Segment, ThinkerInputs


@dataclass(frozen=True)
class TokenTree:
    """One clip's subsets. `paths[k]` marks the tokens of subset k: read alone, in order, they are
    exactly the sequence that a separate pass would be given."""

    token_ids: torch.Tensor  # [L]
    positions: torch.Tensor  # [3, L]
    paths: torch.Tensor  # [K, L] bool
    subsets: tuple[Subset, ...]  # K


@dataclass(frozen=True)
class PackedBatch:
    """Trees of several clips, padded to one length. A clip with fewer subsets has empty paths."""

    token_ids: torch.Tensor  # [B, L]
    positions: torch.Tensor  # [3, B, L]
    paths: torch.Tensor  # [B, K, L] bool
    subsets: tuple[tuple[Subset, ...], ...]  # B x (up to K)
    clips: tuple[ThinkerInputs, ...]  # B


def pack(inputs: ThinkerInputs, subsets: Sequence[Subset]) -> TokenTree:
    """Lays the subsets of one clip out as a prefix tree, depth first.

    Raises:
        ValueError: no subset, a repeated one, or one with a modality that the clip lacks.
    """
    order = tuple(ENCODERS)
    distinct = frozenset(subsets)
    foreign = any(subset - inputs.present for subset in distinct)
    if not distinct or len(distinct) != len(subsets) or foreign:
        raise ValueError(f"cannot pack {list(subsets)} of a clip with {set(inputs.present)}")
    pieces: list[tuple[Segment, int, frozenset[Subset]]] = []  # segment, start, whose path it is on

    def lay_out(depth: int, start: int, here: frozenset[Subset]) -> None:
        if not here:
            return
        if depth == len(order):
            pieces.append((inputs.suffix, start, here))
            return
        modality = order[depth]
        with_it = frozenset(s for s in here if modality in s)
        if with_it:
            segment = inputs.parts[modality]
            pieces.append((segment, start, with_it))
            lay_out(depth + 1, start + segment.span, with_it)
        lay_out(depth + 1, start, here - with_it)

    pieces.append((inputs.prefix, 0, distinct))
    lay_out(0, inputs.prefix.span, distinct)
    lengths = torch.tensor([len(segment.token_ids) for segment, _, _ in pieces])
    member = torch.tensor([[s in paths for _, _, paths in pieces] for s in subsets])  # [K, pieces]
    return TokenTree(
        token_ids=torch.cat([segment.token_ids for segment, _, _ in pieces]),
        positions=torch.cat([segment.positions + start for segment, start, _ in pieces], dim=1),
        paths=member.repeat_interleave(lengths, dim=1),
        subsets=tuple(subsets),
    )


@dataclass(frozen=True)
class Continuation:
    """Tokens that may follow a leaf, themselves a tree: `parents[i]` is the place of the token
    before token i, -1 for the leaf. A chain is one answer; a trie is many answers at once."""

    token_ids: tuple[int, ...]  # n
    parents: tuple[int, ...]  # n, each smaller than its own place

    @classmethod
    def chain(cls, token_ids: Sequence[int]) -> Continuation:
        """One answer, token after token."""
        return cls(tuple(token_ids), tuple(range(-1, len(token_ids) - 1)))

    @property
    def depths(self) -> tuple[int, ...]:
        """How far behind the leaf each token stands, from 1."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    def lines(self) -> torch.Tensor:
        """Every root-to-end line as a row of bools: [number of ends, n]; of nothing, the leaf's."""
        ends = sorted(set(range(len(self.parents))) - set(self.parents)) or [-1]
        rows = torch.zeros(len(ends), len(self.parents), dtype=torch.bool)
        for row, end in zip(rows, ends, strict=True):
            while end >= 0:
                row[end] = True
                end = self.parents[end]
        return rows


def grow(tree: TokenTree, continuations: Sequence[Continuation]) -> tuple[TokenTree, torch.Tensor]:
    """Lets each leaf of a tree go on: continuation k grows on subset k.

    Returns:
        The larger tree, with a path for every line of every continuation, and `nodes` [K, 1 + n]:
        where each leaf and the tokens behind it stand (n of the longest; shorter ones repeat
        their leaf).
    """
    leaves = last_attended(tree.paths)
    longest = max(len(c.token_ids) for c in continuations)
    nodes = leaves[:, None].repeat(1, 1 + longest)
    ids, positions, paths, subsets = [tree.token_ids], [tree.positions], [], []
    length = total = len(tree.token_ids)
    total += sum(len(c.token_ids) for c in continuations)
    for k, continuation in enumerate(continuations):
        n = len(continuation.token_ids)
        nodes[k, 1 : 1 + n] = torch.arange(length, length + n)
        ids.append(torch.tensor(continuation.token_ids, dtype=torch.long))
        # behind the suffix, which is text: its three positions are equal
        start = tree.positions[:, leaves[k]]
        positions.append(start[:, None] + torch.tensor(continuation.depths, dtype=torch.long))
        lines = continuation.lines()
        rows = torch.zeros(len(lines), total, dtype=torch.bool)
        rows[:, : len(tree.token_ids)] = tree.paths[k]
        rows[:, length : length + n] = lines
        paths.append(rows)
        subsets += [tree.subsets[k]] * len(lines)
        length += n
    grown = TokenTree(torch.cat(ids), torch.cat(positions, dim=1), torch.cat(paths), tuple(subsets))
    return grown, nodes


def collate(
    clips: Sequence[ThinkerInputs],
    trees: Sequence[TokenTree],
    pad_token_id: int,
    padding_side: str = "right",
) -> PackedBatch:
    """Pads trees to one length. Padding belongs to no path, so nothing attends to it."""
    length = max(len(t.token_ids) for t in trees)
    most = max(len(t.subsets) for t in trees)

    def padded(x: torch.Tensor, value: int | bool, rows: int = 0) -> torch.Tensor:
        gap = length - x.shape[-1]
        sides = (gap, 0) if padding_side == "left" else (0, gap)
        return pad(x, sides + ((0, rows) if rows else ()), value=value)

    return PackedBatch(
        token_ids=torch.stack([padded(t.token_ids, pad_token_id) for t in trees]),
        positions=torch.stack([padded(t.positions, 0) for t in trees], dim=1),
        paths=torch.stack([padded(t.paths, False, most - len(t.subsets)) for t in trees]),
        subsets=tuple(t.subsets for t in trees),
        clips=tuple(clips),
    )


def tree_attention(paths: torch.Tensor) -> torch.Tensor:
    """Who may look at whom: paths [B, K, L] -> bool [B, 1, L, L].

    In a prefix tree, two tokens on a common path are ancestor and descendant; the earlier one is
    the ancestor. Padding looks at itself, so that no row of the softmax is empty.
    """
    length = paths.shape[-1]
    on_path = paths.transpose(1, 2).float() @ paths.float() > 0  # [B, L, L]
    causal = torch.ones(length, length, dtype=torch.bool, device=paths.device).tril()
    alone = torch.eye(length, dtype=torch.bool, device=paths.device)
    return ((on_path & causal) | alone)[:, None]


def last_attended(mask: torch.Tensor) -> torch.Tensor:
    """Index of the last non-padding token along the last axis: [..., L] -> [...].

    Right for padding on the left, on the right, or none, and for a pad id inside the text, because
    it looks at the mask and not at the tokens.
    """
    length = mask.shape[-1]
    steps = torch.arange(length, device=mask.device)
    return torch.where(mask.bool(), steps, -1).amax(-1)
