"""A small corpus in MOSI's layout, and the commands that train and measure, for their tests."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from media_files import tone, write_media

from omni_msa.__main__ import main

SMALL = ["--batch-size", "4", "--lora-rank", "4", "--lora-alpha", "4", "--lora-dropout", "0"]
READ = ["--max-pixels", str(16 * 784), "--max-frames", "4"]
WORDS = {-2.0: "evil evil", 2.0: "good good"}


def make_release(folder: Path, clips: int = 14) -> Path:
    """A release in MOSI's layout, of real encoded clips whose words tell the label."""
    modes = ["train"] * 8 + ["valid"] * 2 + ["test"] * 4
    rows = []
    for i in range(clips):
        label = -2.0 if i % 2 else 2.0
        path = folder / "Raw" / f"v{i:02d}" / "1.mp4"
        path.parent.mkdir(parents=True)
        write_media(path, 4, rate=4, size=(64, 48), sound=tone(1.0, hertz=200 + 20 * i))
        rows.append((f"v{i:02d}", "1", WORDS[label], label, "", modes[i % len(modes)]))
    with (folder / "label.csv").open("w", newline="") as file:
        header = ("video_id", "clip_id", "text", "label", "annotation", "mode")
        csv.writer(file).writerows([header, *rows])
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_release(folder / "mosi")
    assert main(["data", "import", "mosi", str(folder / "mosi"), "-o",
                 str(folder / "mosi.jsonl"), "-q"]) == 0  # fmt: skip
    return folder / "mosi.jsonl"


@pytest.fixture(scope="module")
def trained(manifest, base_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "checkpoint"
    assert train(manifest, base_folder, out) == 0
    return out


def train(manifest, base, out, *more: str) -> int:
    return main(["train", str(manifest), "-o", str(out), "--model", str(base), "-q", "--epochs",
                 "1", *SMALL, *READ, *more])  # fmt: skip


def document(capsys, *arguments: str) -> dict:
    capsys.readouterr()
    code = main([*arguments, "--json", "-q"])
    assert code == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def emotions(manifest) -> Path:
    """The same clips with an emotion each, which follows from the words."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    path = manifest.parent / "emotions.jsonl"
    named = [row | {"emotion": "joy" if row["label"] > 0 else "anger"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in named))
    return path
