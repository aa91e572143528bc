"""LRCMT (Sun, Che and Gao, Computer Engineering & Science 46(10), 2024): low-rank matrices in every
layer of a frozen language model; voice and face interact first, and the result with the words.

Only the abstract was available: the layers, and everything else in numbers, are ours
(`layers/lrcmt.py`). So is where the low-rank matrices stand: in the Thinker's language model, or in
the attention of the text encoder that is named in its place (with BERT-base .77 % of all parameters
are trained; the paper says about .76 %, of a configuration that was not found).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from omni_msa.errors import ConfigError, check_choice
from omni_msa.files.labels import LabelSpace
from omni_msa.methods.feature_method import FeatureMethod, Rows
from omni_msa.methods.layers.lrcmt import Lrcmt, LrcmtShape
from omni_msa.methods.method import in_weights
from omni_msa.model.features import Sequences
from omni_msa.model.folder_features import FolderFeatures
from omni_msa.model.thinker import Thinker

TUNING = ("low-rank", "frozen", "full")


@dataclass(frozen=True)
class LrcmtOptions:
    """Of the layers, and of how the language model is tuned."""

    width: int = in_weights(64)
    heads: int = 4
    order: str = "voice-face-first"  # or "text-first", or "none": no first stage
    tuning: str = in_weights("low-rank")  # or "frozen", or "full", of a text encoder
    summary: str = "auto"  # the words' state that is read: "first" of an encoder, else "last"

    def __post_init__(self) -> None:
        check_choice("tuning", self.tuning, TUNING)
        check_choice("summary", self.summary, ("auto", "first", "last"))
        self.shape("last")

    def shape(self, summary: str) -> LrcmtShape:
        """Of the layers; `summary` is what "auto" means."""
        if self.summary != "auto":
            summary = self.summary
        return LrcmtShape(self.width, self.heads, self.order, summary)


class LrcmtMethod(FeatureMethod):
    """The words' states are those of a language model that is tuned along."""

    name = "lrcmt"
    Options = LrcmtOptions
    recipe = {
        "epochs": 30,
        "patience": 8,
        "batch_size": 32,
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_scope": "language",
        "lora_learning_rate": 5e-4,
        "head_learning_rate": 5e-4,
    }

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: LrcmtOptions) -> None:
        super().__init__(thinker, label_space, options)
        words = self.features.encoders["text"]
        is_folder = isinstance(words, FolderFeatures)
        if options.tuning == "full":
            if not isinstance(words, FolderFeatures):
                raise ConfigError(
                    "lrcmt: tuning=full takes a text encoder of its own (--encoder text=DIR): the "
                    "Thinker's weights stay as they are"
                )
            words.unfreeze()
        shape = options.shape("first" if is_folder else "last")
        self.network = Lrcmt(self.feature_widths, label_space.num_outputs, shape)
        if words.trained is not None:
            self.words = words.trained

    @classmethod
    def adapts_base(cls, options: LrcmtOptions) -> bool:
        return options.tuning == "low-rank"

    @classmethod
    def num_parameters(cls, width: int, options: LrcmtOptions, label_space: LabelSpace) -> int:
        widths = dict.fromkeys(("text", "audio", "video"), width)
        with torch.device("meta"):
            network = Lrcmt(widths, label_space.num_outputs, options.shape("last"))
        return sum(p.numel() for p in network.parameters())

    def forward(self, clips: Sequences, rows: Rows) -> torch.Tensor:
        shown = rows.show(clips)
        return self.network(shown.values, shown.masks)
