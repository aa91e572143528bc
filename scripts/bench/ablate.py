"""What all eight subsets cost beside one score: in model time, and from a file to a record.

    python -m scripts.bench.ablate [--wide | --model DIR --checkpoint DIR]
        [--video-tokens 1024 2048 4096] [--seconds 4] [--runs 9] [--write]

Jobs, in turn: `score` = one forward pass of the clip alone, towers and language model; `ablate` =
one of all eight subsets; `separate` = eight forward passes, one a subset, as a tool without packing
does it; `score_file` and `ablate_file` = `Scorer.score` of the clip's file, from reading it to the
record. The clip is made here: H.264 and AAC, 16 frames, eighteen words. `--wide` takes a Thinker
whose language model is 512 wide and has 8 layers, with random weights, in the place of the embedded
one. Ratios are medians over rounds, with their quartiles; the last line is JSON, and its ratios are
those of the fewest video tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from omni_msa.files.labels import LabelSpace
from omni_msa.media import read_clip
from omni_msa.methods import make_method
from omni_msa.modalities import Subset, all_subsets
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.loading import load_thinker
from omni_msa.model.thinker import Thinker
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import Checkpoint, CheckpointInfo
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import SAMPLE_RATE, Clip
from scripts.bench.report import interleaved, machine, ratio, write_section

WORDS = "I really did not expect to like it this much, and then the ending made me cry again."
FRAMES, RATE = 16, 24  # frames shown, and frames a second of the file
PATCH = 28  # pixels a side of a video token
WIDE = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8}  # fmt: skip
RATIOS = {
    "ablate_to_score_ratio": ("ablate", "score"),
    "ablate_end_to_end_ratio": ("ablate_file", "score_file"),
    "separate_to_score_ratio": ("separate", "score"),
}


def write_clip(path: Path, seconds: float, size: tuple[int, int]) -> None:
    """A moving pattern and a noisy tone."""
    width, height = size
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = output.add_stream("aac", rate=SAMPLE_RATE)
        for i in range(round(seconds * RATE)):
            waves = [np.sin((across * a + down * b) / 40 + i / 6) for a, b in ((1, 2), (2, -1))]
            rgb = np.stack([*waves, waves[0] * waves[1]], axis=-1) * 100 + 128
            frame = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")
            output.mux(video.encode(frame))
        output.mux(video.encode())
        times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        sound = 0.2 * np.sin(2 * np.pi * 220 * times) + rng.normal(0, 0.02, len(times))
        block = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "fltp", "mono")
        block.sample_rate = SAMPLE_RATE
        output.mux(audio.encode(block))
        output.mux(audio.encode())


def picture_size(video_tokens: int) -> tuple[int, int]:
    """Width and height of the file's picture: twice what is shown, in whole tokens."""
    each = video_tokens // (FRAMES // 2)
    down = max(d for d in range(1, int(each**0.5) + 1) if each % d == 0)
    return 2 * PATCH * (each // down), 2 * PATCH * down


def wide_thinker() -> Thinker:
    """The embedded Thinker's towers, with random weights, before a larger language model."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    tiny = load_thinker("tiny")
    config = type(tiny.config)(**tiny.config.to_dict())
    for name, value in WIDE.items():
        setattr(config.text_config, name, value)
    config.text_config.layer_types = ["full_attention"] * WIDE["num_hidden_layers"]
    config.vision_config.out_hidden_size = config.audio_config.output_dim = WIDE["hidden_size"]
    torch.manual_seed(0)
    model: Any = Qwen2_5OmniThinkerForConditionalGeneration._from_config(config)
    model.eval().requires_grad_(False)
    return Thinker(model, tiny.processor, replace(tiny.base, name="wide"))


def load_scorer(arguments: argparse.Namespace, media: MediaOptions) -> Scorer:
    """The model that was named, or a fresh head on the wide one."""
    if not arguments.wide:
        return Scorer.load(ModelOptions(arguments.model, arguments.checkpoint), media)
    thinker, space = wide_thinker(), LabelSpace()
    info = CheckpointInfo("wide", "", "regression", space, media.to_json())
    return Scorer(
        thinker, Checkpoint(None, info, make_method("regression", thinker, space).eval()), media
    )


def only(inputs: ThinkerInputs, subset: Subset) -> ThinkerInputs:
    """The same inputs as they would be of a clip that has nothing else."""
    parts = {name: part for name, part in inputs.parts.items() if name in subset}
    features = {name: part for name, part in inputs.features.items() if name in subset}
    return replace(inputs, parts=parts, features=features)


@torch.inference_mode()
def measure(arguments: argparse.Namespace, video_tokens: int, folder: Path) -> dict[str, Any]:
    """One clip of that many video tokens: tokens, seconds and ratios."""
    size = picture_size(video_tokens)
    media = MediaOptions(
        fps=FRAMES / arguments.seconds,
        max_frames=FRAMES,
        max_pixels=size[0] * size[1] // 4,
    )
    scorer = load_scorer(arguments, media)
    thinker = scorer.thinker
    clip = Clip(path=folder / f"{video_tokens}.mp4", transcript=WORDS)
    write_clip(folder / f"{video_tokens}.mp4", arguments.seconds, size)
    inputs: Any = scorer.builder.build(read_clip(clip, media), media)
    subsets = all_subsets(inputs.present)
    whole = thinker.batch([inputs], [[inputs.present]])
    packed = thinker.batch([inputs], [subsets])
    separate = [thinker.batch([only(inputs, s)], [[s]]) for s in subsets]
    no_ablation = AblationOptions(enabled=False)
    jobs: dict[str, Callable[[], object]] = {
        "score": lambda: thinker.forward(whole),
        "ablate": lambda: thinker.forward(packed),
        "separate": lambda: [thinker.forward(batch) for batch in separate],
        "score_file": lambda: scorer.score(clip, no_ablation),
        "ablate_file": lambda: scorer.score(clip),
    }
    seconds = interleaved(jobs, arguments.runs)
    quartiles = {name: ratio(seconds, *pair) for name, pair in RATIOS.items()}
    return {
        "video_tokens": int((whole.token_ids == thinker.config.video_token_id).sum()),
        "tokens_score": whole.token_ids.shape[1],
        "tokens_ablate": packed.token_ids.shape[1],
        "seconds": {name: round(statistics.median(s), 5) for name, s in seconds.items()},
        **{name: round(middle, 3) for name, (_, middle, _) in quartiles.items()},
        "quartiles": {
            name: [round(low, 3), round(high, 3)] for name, (low, _, high) in quartiles.items()
        },
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The figures in Markdown."""
    lines = [
        "| video tokens | all tokens, one score; packed | one score, s "
        "| model time | file to record | run apart |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['video_tokens']:,}", f"{row['tokens_score']:,}; {row['tokens_ablate']:,}"]
        cells.append(f"{row['seconds']['score']:.2f}")
        for name in RATIOS:
            low, high = row["quartiles"][name]
            cells.append(f"{row[name]:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wide", action="store_true", help="512 wide, 8 layers, random weights")
    parser.add_argument("--model")
    parser.add_argument("--checkpoint")
    parser.add_argument("--video-tokens", type=int, nargs="+", default=[1024])
    parser.add_argument("--seconds", type=float, default=4.0, help="of the clip")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = sorted(arguments.video_tokens)
        rows = [measure(arguments, count, Path(folder)) for count in counts]
    lines = table(rows)
    print("\n".join(lines))
    if arguments.write:
        how = "--wide " if arguments.wide else ""
        caption = f"`python -m scripts.bench.ablate {how}`on {machine()}, {arguments.runs} rounds"
        section = "ablate wide" if arguments.wide else "ablate"
        write_section(section, [f"{caption}:", "", *lines])
    print(json.dumps({"machine": machine(), "wide": arguments.wide, **rows[0], "clips": rows}))


if __name__ == "__main__":
    main()
