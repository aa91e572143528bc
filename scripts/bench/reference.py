"""The path that users of Qwen2.5-Omni are shown: qwen-omni-utils, the transformers processor, and
the library's own forward pass, one clip at a time. It reads sound with the `ffmpeg` program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from audioread.exceptions import DecodeError

from omni_msa.model.prompt import conversation
from omni_msa.scoring.scorer import Scorer

# What it raises on files without sound or picture, on damaged ones, and without ffmpeg.
UNREADABLE = (AssertionError, AttributeError, DecodeError, OSError, RuntimeError, ValueError)


class Reference:
    """That path, on a scorer's own base and with its limits of frames and pixels."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.processor = scorer.thinker.processor

    def inputs(self, path: Path) -> Any:
        """What the model is given of a clip that has picture and sound."""
        from qwen_omni_utils import process_mm_info

        media = self.scorer.media
        limits = {"min_pixels": media.min_pixels, "max_pixels": media.max_pixels}
        chat = conversation(frozenset({"text", "video"}), "")
        chat[1]["content"][1] |= {"video": str(path), "max_frames": media.max_frames} | limits
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        text = text.replace("<|vision_eos|>", "<|vision_eos|><|audio_bos|><|AUDIO|><|audio_eos|>")
        audios, _, videos = process_mm_info(chat, use_audio_in_video=True)
        return self.processor(
            text=text,
            audio=audios,
            videos=videos,
            return_tensors="pt",
            videos_kwargs={"do_sample_frames": False} | limits,
        )

    @torch.inference_mode()
    def score(self, path: Path) -> torch.Tensor:
        """One number, as a plain loop over files gets it."""
        hidden = self.scorer.thinker.core.model(**self.inputs(path)).last_hidden_state[:, -1]
        return self.scorer.method(hidden)

    def can_read(self, path: Path) -> bool:
        """Whether it reads that file here; says why not."""
        try:
            self.inputs(path)
        except UNREADABLE as error:
            print(f"the reference cannot read {path.name}: {error!r}", file=sys.stderr)
            return False
        return True
