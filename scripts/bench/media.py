"""From a file to frames, and to the model's inputs, beside what others take for the same.

    python -m scripts.bench.media [--clips FOLDER] [--runs 7] [--quick] [--write]

Talking heads are drawn and encoded first (a quarter of an hour, once a folder). Two tables: the
inputs of a clip of ten seconds beside the reference path (qwen-omni-utils and the transformers
processor) and beside the `ffmpeg` program, which only decodes and scales the same frames; and the
frames alone by each library that can be had: this one's path, decord, TorchCodec, qwen-omni-utils,
`ffmpeg`. Medians of interleaved runs, with quartiles; every job may use all cores. What is not
installed is left out and said so. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from omni_msa.media import probe, read_clip
from omni_msa.media.container import Deadline
from omni_msa.media.pyav import read_frames
from omni_msa.media.sampling import plan_frames
from omni_msa.options import MediaOptions
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip, FramePlan
from scripts.bench.clips import RATE, Film, make_film
from scripts.bench.reference import UNREADABLE, Reference
from scripts.bench.report import interleaved, machine, ratio, write_section

OPTIONS = MediaOptions()
LONG, SHORT = Film(), Film(keyframe_seconds=0.6)  # of the first table: 250 and 15 frames apart
FILMS = [
    Film(codec=codec, keyframe_seconds=seconds)
    for codec in ("h264", "hevc", "vp9", "av1")
    for seconds in (10.0, 0.5)
] + [
    Film(seconds, height, keyframe_seconds=group)
    for seconds, height in ((10.0, 360), (10.0, 1080), (3.0, 720), (60.0, 720))
    for group in (10.0, 0.5)
]
Job = Callable[[], object]


def inputs(scorer: Scorer, path: Path) -> object:
    """A file as the model's inputs, as `omni-msa score` makes them; nothing is remembered of it."""
    probe._memory.clear()
    return scorer.prepare(read_clip(Clip(path=path), scorer.media))


def frames(path: Path) -> tuple[FramePlan, np.ndarray]:
    """Our path as far as the frames: which moments, and uint8 RGB [F, h, w, 3]."""
    probe._memory.clear()
    with probe.open_media(path) as media:
        assert media.facts.video is not None
        plan = plan_frames(media.facts.video, OPTIONS)
        return plan, read_frames(media, plan, Deadline(path, 600.0)).rgb


def by_decord(path: Path, plan: FramePlan, indices: list[int]) -> object:
    """Scaled by decord's own scaler."""
    import decord

    try:
        reader = decord.VideoReader(str(path), width=plan.width, height=plan.height)
        return reader.get_batch(indices).asnumpy()
    except decord.DECORDError as error:
        raise RuntimeError(error) from error


def by_torchcodec(path: Path, plan: FramePlan, indices: list[int]) -> object:
    """Scaled by TorchCodec's own scaler, with as many threads as FFmpeg likes."""
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    size = Resize((plan.height, plan.width))
    return VideoDecoder(path, num_ffmpeg_threads=0, transforms=[size]).get_frames_at(indices).data


def by_reference(path: Path, plan: FramePlan, indices: list[int]) -> object:
    """qwen-omni-utils with its own choice of reader."""
    from qwen_omni_utils.v2_5.vision_process import fetch_video

    limits = {"min_pixels": OPTIONS.min_pixels, "max_pixels": OPTIONS.max_pixels}
    return fetch_video({"video": str(path), "max_frames": OPTIONS.max_frames} | limits)


def by_ffmpeg(path: Path, plan: FramePlan, indices: list[int]) -> object:
    """The program, which selects, scales and writes raw frames into a pipe."""
    chosen = "+".join(f"eq(n\\,{index})" for index in indices)
    filters = f"select='{chosen}',scale={plan.width}:{plan.height}:flags=bicubic"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-an", "-vf", filters]
    command += ["-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    if len(raw) != len(indices) * plan.width * plan.height * 3:
        raise RuntimeError(f"ffmpeg gave {len(raw)} bytes for {len(indices)} frames")
    return raw


READERS = {
    "decord": by_decord,
    "torchcodec": by_torchcodec,
    "qwen-omni-utils": by_reference,
    "ffmpeg": by_ffmpeg,
}


def available(path: Path) -> list[str]:
    """The readers that give the frames of a clip on this machine; says why others do not."""
    plan, rgb = frames(path)
    names = []
    for name, read in READERS.items():
        try:
            read(path, plan, list(range(len(rgb))))
        except (*UNREADABLE, ImportError, subprocess.CalledProcessError) as error:
            reason = str(error).strip().splitlines()[0]
            print(f"{name} is left out: {reason}", file=sys.stderr)
        else:
            names.append(name)
    return names


def indices_of(plan: FramePlan) -> list[int]:
    """The numbers of the planned frames, at a constant rate."""
    last = round(plan.times_seconds[-1] * RATE)
    return [min(int(t * RATE + 1e-6), last) for t in plan.times_seconds]


def table_of_inputs(folder: Path, runs: int) -> tuple[list[str], dict[str, Any]]:
    """The first table, and its ratios."""
    scorer = Scorer.load()
    reference = Reference(scorer)
    rows = ["| 10 s of 720p, keyframe every | inputs | reference path | `ffmpeg`, frames alone | "
            "reference / ours | ours / `ffmpeg` |", "|---|---|---|---|---|---|"]  # fmt: skip
    result: dict[str, Any] = {}
    for film in (LONG, SHORT):
        path = make_film(film, folder)
        plan, _ = frames(path)
        jobs: dict[str, Job] = {"ours": partial(inputs, scorer, path)}
        if reference.can_read(path):
            jobs["reference"] = partial(reference.inputs, path)
        if shutil.which("ffmpeg"):
            jobs["ffmpeg"] = partial(by_ffmpeg, path, plan, indices_of(plan))
        seconds = interleaved(jobs, runs)
        group = f"{round(film.keyframe_seconds * RATE)} frames"
        cells = [_spread(seconds.get(name)) for name in ("ours", "reference", "ffmpeg")]
        for name, pair in (
            ("inputs_speedup_vs_reference", ("reference", "ours")),
            ("decode_time_vs_ffmpeg", ("ours", "ffmpeg")),
        ):
            value = ratio(seconds, *pair)[1] if set(pair) <= set(seconds) else None
            result.setdefault(name, {})[group] = None if value is None else round(value, 3)
            cells.append("" if value is None else f"{value:.2f}")
        rows.append(f"| {group} | {' | '.join(cells)} |")
        print(rows[-1])
    return rows, result


def table_of_frames(films: list[Film], folder: Path, runs: int) -> tuple[list[str], dict[str, Any]]:
    """The second table, and the medians in seconds."""
    rows = [f"| clip | omni-msa | {' | '.join(READERS)} |", "|---" * (len(READERS) + 2) + "|"]
    medians: dict[str, Any] = {}
    for film in films:
        path = make_film(film, folder)
        plan, _ = frames(path)
        indices = indices_of(plan)
        jobs: dict[str, Job] = {"omni-msa": partial(frames, path)}
        jobs |= {name: partial(READERS[name], path, plan, indices) for name in available(path)}
        seconds = interleaved(jobs, runs)
        medians[film.name] = {n: round(statistics.median(s), 4) for n, s in seconds.items()}
        cells = [_spread(seconds.get(name)) for name in ("omni-msa", *READERS)]
        rows.append(f"| {film.name} | {' | '.join(cells)} |")
        print(rows[-1])
    return rows, medians


def _spread(seconds: list[float] | None) -> str:
    """Median, and quartiles, in milliseconds."""
    if not seconds:
        return ""
    low, middle, high = np.quantile(np.array(seconds) * 1000, (0.25, 0.5, 0.75))
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder that the clips are kept in")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="the first table alone")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.clips or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows, result = table_of_inputs(folder, arguments.runs)
        lines = [f"On {machine()}, milliseconds:", "", *rows]
        if not arguments.quick:
            rows, medians = table_of_frames(FILMS, folder, arguments.runs)
            lines += ["", "Frames alone:", "", *rows]
            result["frame_seconds"] = medians
    if arguments.write:
        write_section("media", lines)
    print(json.dumps({"machine": machine()} | result))


if __name__ == "__main__":
    main()
