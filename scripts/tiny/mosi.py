"""Writes synthetic clips in the layout that MMSA gave CMU-MOSI: label.csv and Raw/VIDEO/CLIP.mp4.

    python -m scripts.tiny.mosi OUT --clips 60

Six of ten clips are for training, one for validation, three for testing. The clips are real encoded
files; what is said in them, and how, is synthetic.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from scripts.tiny.clips import draw_spec, encode, perform

CLIPS_A_VIDEO = 5
MODES = ("train",) * 6 + ("valid",) + ("test",) * 3  # by video, so that none is in two splits
H264 = {"preset": "ultrafast", "crf": "26"}
COLUMNS = ("video_id", "clip_id", "text", "label", "annotation", "mode")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--first-seed", type=int, default=3_000_000)
    arguments = parser.parse_args()
    rows = []
    for number in range(arguments.clips):
        video, clip = divmod(number, CLIPS_A_VIDEO)
        spec = draw_spec(arguments.first_seed + number, tracks="both")
        take = perform(spec)
        path = arguments.out / "Raw" / f"video{video:04d}" / f"{clip + 1}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = ("aac", take.sound, take.sample_rate)
        encode(path, ("libx264", take.frames), take.rate, sound, H264)
        label = spec.row(path.name)["label"]
        word = "Negative" if label < 0 else "Positive" if label > 0 else "Neutral"
        mode = MODES[video % len(MODES)]
        rows.append((path.parent.name, path.stem, spec.text, label, word, mode))
    with (arguments.out / "label.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
