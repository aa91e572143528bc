"""Clips as tensors with labels; one that cannot be shown is left out, with the reason."""

from __future__ import annotations

from collections.abc import Callable

from omni_msa.errors import OmniMSAError
from omni_msa.media.feed import FeedItem
from omni_msa.training.data import LabelledInputs, with_labels
from omni_msa.training.model import TrainedModel
from omni_msa.values import Clip


class ExampleBuilder:
    """Builds labelled inputs, and gives notice once of each clip that is left out.

    Args:
        model: whose inputs they are.
        notice: gets a line for each clip that is left out.
    """

    def __init__(self, model: TrainedModel, notice: Callable[[str], None]) -> None:
        self.model = model
        self.notice = notice
        self.reported_clips: set[str] = set()

    def build(
        self, clip: Clip, content: FeedItem, left_out: dict[str, str], packed: bool
    ) -> LabelledInputs | None:
        """A clip as tensors; None if it cannot be shown.

        Args:
            content: what the feed gave for it: its content, or why there is none.
            left_out: gets the reason, by the clip's name.
            packed: with its smaller subsets too.
        """
        try:
            if isinstance(content, OmniMSAError):
                raise content
            inputs = self.model.builder.build(content, self.model.media, self.model.hide)
        except OmniMSAError as error:
            if clip.name not in self.reported_clips:
                self.notice(f"left out: {error}")
            self.reported_clips.add(clip.name)
            left_out[clip.name] = str(error)
            return None
        return with_labels(clip, inputs, packed, self.model.method.label_space)
