"""What reading costs in training, and what the packed subsets cost: ratios, measured in one run.

    python -m scripts.bench.train [--clips 24] [--size 1280x720] [--threads 2]

Trains the `tiny` base for an epoch, again and again, in turn: reading every clip from its file by
one reading process, as `omni-msa train` does, and from a warm cache (`--cache`); and, with clips in
memory, on whole clips (`--subsets full`) and on all their subsets in the same pass (`packed`). The
clips are synthetic speakers in H.264 and AAC at 25 frames a second. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from omni_msa.media.cache import ContentCache
from omni_msa.media.feed import Feed, FileFeed
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.training.data import TrainingData
from omni_msa.training.trainer import Trainer, TrainProgress
from omni_msa.values import Clip
from scripts.memory_feed import MemoryFeed
from scripts.tiny.clips import draw_spec, encode, perform

RATE = 25
FIRST_SEED = 7_000_000


def make_clips(folder: Path, count: int, size: tuple[int, int]) -> list[Clip]:
    """Encoded files with their words and labels."""
    clips = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        spec = draw_spec(seed, tracks="both")
        take, path = perform(spec, size, RATE), folder / f"{seed}.mp4"
        options = {"preset": "veryfast", "crf": "23"}
        encode(path, ("libx264", take.frames), RATE, ("aac", take.sound, 44_100), options)
        clips.append(Clip(path, spec.text, label=spec.row(path.name)["label"]))
    return clips


def epoch_seconds(feed: Feed, media: MediaOptions, subsets: str) -> float:
    """Wall time of one epoch's steps, from the first batch that is asked for to the last step."""
    moments: list[float] = []

    def note(now: TrainProgress) -> None:
        moments.append(time.perf_counter())

    options = TrainOptions(epochs=1, batch_size=4, subsets=subsets)
    trainer = Trainer(ModelOptions("tiny"), options, media, note)
    one = MemoryFeed([next(iter(feed.read([0])))])  # type: ignore[list-item]
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        trainer.run(TrainingData(feed, one), Path(out))
    return moments[-2] - began  # the last is the validation's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    media = MediaOptions()
    with tempfile.TemporaryDirectory() as folder:
        width, height = map(int, arguments.size.split("x"))
        clips = make_clips(Path(folder), arguments.clips, (width, height))
        cache = ContentCache(Path(folder) / "cache", 10**10)
        warm = FileFeed(clips, media, 1, cache)
        contents = list(warm.read(range(len(clips))))
        memory = MemoryFeed(contents)  # type: ignore[arg-type]
        kinds = {
            "files": (FileFeed(clips, media, 1), "full"),
            "cache": (warm, "full"),
            "memory": (memory, "full"),
            "packed": (memory, "packed"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(arguments.rounds):  # in turn, so that a busy moment hits all of them
            for name, (feed, subsets) in kinds.items():
                seconds[name].append(epoch_seconds(feed, media, subsets))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"{name:8} {arguments.clips / value:6.2f} clips/s")
    cached, packed = median["files"] / median["cache"], median["packed"] / median["memory"]
    print(f"throughput with a cache: {cached:.2f} times that without")
    print(f"a step on packed subsets: {packed:.2f} times one on whole clips")
    result = {
        "clips": arguments.clips,
        "size": arguments.size,
        "threads": arguments.threads,
        "clips_per_second": {n: round(arguments.clips / v, 3) for n, v in median.items()},
        "cached_over_uncached": round(cached, 3),
        "packed_over_full": round(packed, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
