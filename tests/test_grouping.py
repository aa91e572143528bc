"""Clips that are alike share a pass; none waits for ever."""

from __future__ import annotations

import numpy as np
import torch

from omni_msa.model.inputs import Segment, ThinkerInputs
from omni_msa.scoring.grouping import Grouping
from omni_msa.scoring.scorer import Prepared
from omni_msa.values import Clip, ClipContent


def prepared(num_tokens: int, modality: str = "text") -> Prepared:
    def segment(length: int) -> Segment:
        return Segment(torch.zeros(length, dtype=torch.long), torch.zeros(3, length))

    inputs = ThinkerInputs(segment(0), {modality: segment(num_tokens)}, segment(0))
    content = ClipContent(Clip(transcript="x", id="words"), "")
    return Prepared(content, inputs, 0.0)


def groups_of(items: list[Prepared], batch_size: int) -> tuple[list[list[int]], list[list[int]]]:
    """The groups that went while clips came in, and those at the end."""
    grouping = Grouping(batch_size)
    early, late = [], []
    for index, item in enumerate(items):
        grouping.add(index, item)
        early.append([i for i, _ in grouping.ready()])
    while group := grouping.oldest():
        late.append([i for i, _ in group])
    return [group for group in early if group], late


def test_a_group_goes_as_soon_as_enough_are_alike():
    early, late = groups_of([prepared(100 + i) for i in range(7)], batch_size=3)
    assert [sorted(group) for group in early] == [[0, 1, 2], [3, 4, 5]] and late == [[6]]


def test_long_and_short_clips_do_not_pad_each_other():
    items = [prepared(1000 if i % 2 else 100) for i in range(8)]
    early, late = groups_of(items, batch_size=4)
    assert [sorted(group) for group in early] == [[0, 2, 4, 6], [1, 3, 5, 7]] and not late


def test_what_waits_is_bounded_and_none_waits_for_ever():
    # one lonely clip, then lengths that never come together
    items = [prepared(1, "audio")] + [prepared(10 * 2**i) for i in range(1, 12)]
    grouping = Grouping(2)
    gone: list[int] = []
    for index, item in enumerate(items):
        grouping.add(index, item)
        gone += [i for i, _ in grouping.ready()]
        assert len(grouping) <= 4
    assert gone[0] == 0


def test_each_clip_goes_alone_when_the_batch_size_is_one():
    early, late = groups_of([prepared(10) for i in range(3)], batch_size=1)
    assert early == [[0], [1], [2]] and not late


def test_every_clip_goes_exactly_once():
    rng = np.random.default_rng(1)
    items = [
        prepared(int(rng.integers(10, 2000)), ("text", "audio", "video")[int(rng.integers(3))])
        for i in range(200)
    ]
    early, late = groups_of(items, batch_size=4)
    assert sorted(i for group in early + late for i in group) == list(range(200))
    for group in early + late:
        assert len(group) <= 4
        assert len({items[i].pattern for i in group}) == 1
