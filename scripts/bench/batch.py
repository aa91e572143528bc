"""Scoring a folder: clips a second and memory, beside the reference pipeline on the same clips.

    python -m scripts.bench.batch FOLDER [--workers 2] [--batch-size 8] [--reference 20]

Peer, in the same run: qwen-omni-utils `process_mm_info`, the transformers processor and the
library's own forward, one clip at a time, one score each (ours gives all eight subsets); it reads
sound with the `ffmpeg` program, and without that there is no peer and no ratio. Reported: the
resident memory of this process after 20 and 100 clips and at the end. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from pathlib import Path

import torch
from audioread.exceptions import DecodeError

from omni_msa.files.sources import expand_inputs
from omni_msa.model.prompt import conversation
from omni_msa.options import AblationOptions, BatchOptions
from omni_msa.scoring.batch import BatchProgress, run_batch
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip

MIB = 1024**2
# What the reference raises on files without sound or picture, on damaged ones, and without ffmpeg.
UNREADABLE = (AssertionError, AttributeError, DecodeError, OSError, RuntimeError, ValueError)


def resident_mib() -> float:
    """Memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def score_folder(scorer: Scorer, clips: list[Clip], options: BatchOptions) -> dict:
    """Our side: every clip with its ablation, memory noted on the way."""
    memory: dict[int, float] = {}

    def note(now: BatchProgress) -> None:
        if now.done in (20, 100, now.total):
            memory[now.done] = round(resident_mib(), 1)

    start = time.perf_counter()
    summary = run_batch(clips, scorer, None, options, AblationOptions(), frozenset(), note, False)
    seconds = time.perf_counter() - start
    return {
        "clips": len(clips),
        "failed": summary.failed,
        "clips_per_second": round(len(clips) / seconds, 2),
        "resident_mib_after": memory,
    }


@torch.inference_mode()
def score_by_reference(scorer: Scorer, clips: list[Clip]) -> float:
    """Clips a second of the reference pipeline, on clips that it can read."""
    from qwen_omni_utils import process_mm_info

    processor, core, media = scorer.thinker.processor, scorer.thinker.core, scorer.media
    done, start = 0, time.perf_counter()
    for clip in clips:
        chat = conversation(frozenset({"text", "video"}), "")
        chat[1]["content"][1] |= {
            "video": str(clip.path),
            "min_pixels": media.min_pixels,
            "max_pixels": media.max_pixels,
            "max_frames": media.max_frames,
        }
        text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        text = text.replace("<|vision_eos|>", "<|vision_eos|><|audio_bos|><|AUDIO|><|audio_eos|>")
        try:
            audios, _, videos = process_mm_info(chat, use_audio_in_video=True)
        except UNREADABLE as error:  # a peer that cannot read a clip is not timed on it
            print(f"the reference cannot read {clip.path}: {error!r}", file=sys.stderr)
            continue
        kwargs = {"do_sample_frames": False, "min_pixels": media.min_pixels,
                  "max_pixels": media.max_pixels}  # fmt: skip
        inputs = processor(
            text=text, audio=audios, videos=videos, return_tensors="pt", videos_kwargs=kwargs
        )
        hidden = core.model(**inputs).last_hidden_state[:, -1]
        scorer.method(hidden)
        done += 1
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--reference", type=int, default=20, help="clips for the peer; 0 for none")
    parser.add_argument("--most", type=int, default=10_000)
    arguments = parser.parse_args()

    clips, _ = expand_inputs([arguments.folder])
    clips = clips[: arguments.most]
    scorer = Scorer.load()
    options = BatchOptions(batch_size=arguments.batch_size, workers=arguments.workers)
    result = {"machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}
    result |= score_folder(scorer, clips, options)
    result["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    if arguments.reference:
        with_video = [c for c in clips if c.path and c.path.suffix in (".mp4", ".mov", ".mkv")]
        rate = score_by_reference(scorer, with_video[: arguments.reference])
        result["reference_clips_per_second"] = round(rate, 2)
        if rate:
            result["times_reference"] = round(result["clips_per_second"] / rate, 2)
    for name, value in result.items():
        print(f"{name:28} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
