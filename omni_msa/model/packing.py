"""Subsets of a clip -> one token tree, scored in one forward pass.

The prompt's parts come in a fixed order (video, audio, transcript), so the sequences of a clip's
subsets form a prefix tree: what two subsets share is computed once. Each token attends to its
ancestors only and keeps the position it would have alone, so every leaf ends with the hidden state
that a separate pass would give it. Who is an ancestor is told by two numbers a token, counted depth
first: its own (`enter`), and the last one in its subtree (`exit`).

    prefix ─┬─ video ─┬─ audio ─┬─ text ── suffix   TAV
            │         │         └───────── suffix   AV
            │         ├─ text ──────────── suffix   TV
            │         └─────────────────── suffix   V
            ├─ audio ─┬─ text …                      TA, A
            └─ text …                                T, nothing

Shapes: B clips, K subsets, L tokens of a tree, N tokens that ask.
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
    """One clip's subsets. The ancestors of subset k's leaf, and itself, are in order exactly the
    sequence that a separate pass would be given."""

    token_ids: torch.Tensor  # [L]
    positions: torch.Tensor  # [3, L]
    enter: torch.Tensor  # [L] number of each token
    exit: torch.Tensor  # [L] last number in its subtree
    leaves: torch.Tensor  # [K] places of the last tokens
    subsets: tuple[Subset, ...]  # K

    @property
    def trunk(self) -> int:
        """How many of the first tokens form a chain: usually the whole clip, up to its leaf."""
        follows = self.enter <= self.exit.cummin(0).values
        return int(follows.long().cumprod(0).sum())


@dataclass(frozen=True)
class PackedBatch:
    """Trees of several clips, padded to one length. A clip with fewer subsets has leaves of -1."""

    token_ids: torch.Tensor  # [B, L]
    positions: torch.Tensor  # [3, B, L]
    enter: torch.Tensor  # [B, L]
    exit: torch.Tensor  # [B, L]
    leaves: torch.Tensor  # [B, K]
    trunk: int  # the first tokens that form a chain in every clip
    subsets: tuple[tuple[Subset, ...], ...]  # B x (up to K)
    clips: tuple[ThinkerInputs, ...]  # B

    @property
    def paths(self) -> torch.Tensor:
        """What each leaf may look at: [B, K, L] bool, nothing where there is no leaf."""
        asking = self.enter.gather(1, self.leaves.clamp(min=0))
        return looks_at(asking, self.enter, self.exit) & (self.leaves >= 0)[..., None]


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
    pieces: list[tuple[Segment, int, int]] = []  # segment, its first position, the piece before it
    leaf_pieces: dict[Subset, int] = {}

    def lay_out(depth: int, start: int, before: int, here: frozenset[Subset]) -> None:
        if not here:
            return
        piece = len(pieces)
        if depth == len(order):
            pieces.append((inputs.suffix, start, before))
            leaf_pieces.update(dict.fromkeys(here, piece))
            return
        modality = order[depth]
        with_it = frozenset(s for s in here if modality in s)
        if with_it:
            segment = inputs.parts[modality]
            pieces.append((segment, start, before))
            lay_out(depth + 1, start + segment.span, piece, with_it)
        lay_out(depth + 1, start, before, here - with_it)

    pieces.append((inputs.prefix, 0, 0))
    lay_out(0, inputs.prefix.span, 0, distinct)
    lengths = torch.tensor([len(segment.token_ids) for segment, _, _ in pieces])
    ends = (lengths.cumsum(0) - 1).tolist()
    leaves = [ends[leaf_pieces[subset]] for subset in subsets]
    for piece in reversed(range(len(pieces))):  # a piece ends where the last one behind it does
        before = pieces[piece][2]
        ends[before] = max(ends[before], ends[piece])
    return TokenTree(
        token_ids=torch.cat([segment.token_ids for segment, _, _ in pieces]),
        positions=torch.cat([segment.positions + start for segment, start, _ in pieces], dim=1),
        enter=torch.arange(int(lengths.sum())),
        exit=torch.tensor(ends).repeat_interleave(lengths),
        leaves=torch.tensor(leaves),
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

    @property
    def ends(self) -> tuple[int, ...]:
        """The last token of every line from the leaf on; of nothing, the leaf."""
        return tuple(sorted(set(range(len(self.parents))) - set(self.parents))) or (-1,)

    @property
    def numbers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Each token's own number and the last one in its subtree, counted depth first: [n] both.

        The tokens themselves may stand in any order that has parents first.
        """
        sizes = [1] * len(self.parents)
        for i in reversed(range(len(sizes))):
            if self.parents[i] >= 0:
                sizes[self.parents[i]] += sizes[i]
        enter: list[int] = []
        free = [0] * (len(sizes) + 1)  # the next number behind each token; the last is the leaf's
        for i, parent in enumerate(self.parents):
            enter.append(free[parent])
            free[parent] += sizes[i]
            free[i] = enter[i] + 1
        first = torch.tensor(enter, dtype=torch.long)
        return first, first + torch.tensor(sizes, dtype=torch.long) - 1


def grow(tree: TokenTree, continuations: Sequence[Continuation]) -> tuple[TokenTree, torch.Tensor]:
    """Lets each leaf of a tree go on: continuation k grows on subset k.

    Returns:
        The larger tree, with a leaf for every line of every continuation, and `nodes` [K, 1 + n]:
        where each leaf and the tokens behind it stand (n of the longest; shorter ones repeat
        their leaf).
    """
    sizes = torch.tensor([len(c.token_ids) for c in continuations])  # [K]
    nodes = tree.leaves[:, None].repeat(1, 1 + int(sizes.max()))
    # numbers behind a leaf make room for what grows there
    at = tree.enter[tree.leaves]  # [K]
    enter = tree.enter + (tree.enter[:, None] > at).long() @ sizes
    enters, exits = [enter], [tree.exit + (tree.exit[:, None] >= at).long() @ sizes]
    next_number = dict(zip(tree.leaves.tolist(), (enter[tree.leaves] + 1).tolist(), strict=True))
    ids, positions = [tree.token_ids], [tree.positions]
    ends: list[int] = []
    subsets: list[Subset] = []
    length = len(tree.token_ids)
    for k, continuation in enumerate(continuations):
        n, leaf = len(continuation.token_ids), int(tree.leaves[k])
        nodes[k, 1 : 1 + n] = torch.arange(length, length + n)
        ids.append(torch.tensor(continuation.token_ids, dtype=torch.long))
        # behind the suffix, which is text: its three positions are equal
        start = tree.positions[:, leaf]
        positions.append(start[:, None] + torch.tensor(continuation.depths, dtype=torch.long))
        first, last = continuation.numbers
        enters.append(first + next_number[leaf])
        exits.append(last + next_number[leaf])
        next_number[leaf] += n
        ends += [leaf if end < 0 else length + end for end in continuation.ends]
        subsets += [tree.subsets[k]] * len(continuation.ends)
        length += n
    grown = TokenTree(
        token_ids=torch.cat(ids),
        positions=torch.cat(positions, dim=1),
        enter=torch.cat(enters),
        exit=torch.cat(exits),
        leaves=torch.tensor(ends),
        subsets=tuple(subsets),
    )
    return grown, nodes


def collate(
    clips: Sequence[ThinkerInputs],
    trees: Sequence[TokenTree],
    pad_token_id: int,
    padding_side: str = "right",
) -> PackedBatch:
    """Pads trees to one length. Padding is numbered below zero, each token as a tree of its own."""
    lengths = [len(t.token_ids) for t in trees]
    length, most = max(lengths), max(len(t.subsets) for t in trees)
    on_left = padding_side == "left"
    alone = -1 - torch.arange(length)

    def padded(x: torch.Tensor, value: int) -> torch.Tensor:
        gap = length - x.shape[-1]
        return pad(x, (gap, 0) if on_left else (0, gap), value=value)

    def numbers(rows: Sequence[torch.Tensor]) -> torch.Tensor:
        stacked = torch.stack([padded(row, -1) for row in rows])
        return stacked.where(stacked >= 0, alone)

    shifts = [(length - n) * on_left for n in lengths]
    leaves = [t.leaves + shift for t, shift in zip(trees, shifts, strict=True)]
    return PackedBatch(
        token_ids=torch.stack([padded(t.token_ids, pad_token_id) for t in trees]),
        positions=torch.stack([padded(t.positions, 0) for t in trees], dim=1),
        enter=numbers([t.enter for t in trees]),
        exit=numbers([t.exit for t in trees]),
        leaves=torch.stack([pad(x, (0, most - len(x)), value=-1) for x in leaves]),
        trunk=0 if any(shifts) else min(t.trunk for t in trees),
        subsets=tuple(t.subsets for t in trees),
        clips=tuple(clips),
    )


def looks_at(asking: torch.Tensor, enter: torch.Tensor, exit: torch.Tensor) -> torch.Tensor:
    """Who may look at whom: numbers of those that ask [..., N], of all [..., L] -> [..., N, L].

    A token looks at its ancestors and itself: at those whose subtree its number lies in. Padding,
    which is numbered so, looks at itself, so that no row of the softmax is empty.
    """
    number = asking[..., None]
    return (enter[..., None, :] <= number) & (number <= exit[..., None, :])


def chain_numbers(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`enter` and `exit` of rows that are chains, without the padding between: mask [..., L]."""
    places = torch.arange(mask.shape[-1], device=mask.device)
    enter = places.where(mask, -1 - places)
    return enter, torch.where(mask, mask.shape[-1], enter)
