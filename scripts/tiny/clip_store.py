"""Synthetic clips, read through the product's own reader, with what the generator knows of them."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

from omni_msa.errors import OmniMSAError
from omni_msa.media.readers import ClipReaders
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent
from scripts.tiny.clips import sentiment


@dataclass(frozen=True)
class StoredClip:
    """A read clip, its stated terms, and its face and voice settings in [-1, 1]."""

    content: ClipContent
    row: dict

    def sentiment(self, shown: Subset) -> float:
        """The generator's stated sentiment of these modalities."""
        terms = self.row["terms"]
        return sentiment(terms["text"], terms["audio"], terms["video"], shown=set(shown))

    @property
    def face(self) -> dict[str, float]:
        return {name: self.row[name] for name in ("mouth", "brow", "eyes")}

    @property
    def voice(self) -> dict[str, float]:
        return {name: self.row[name] for name in ("pitch", "pitch_range", "pace", "loudness")}


def load_store(folder: Path, options: MediaOptions) -> list[StoredClip]:
    """Reads every clip of a corpus once; later calls take the pickle beside it."""
    stored = folder / "store.pickle"
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    done: dict[int, StoredClip] = {}
    if stored.exists():
        with stored.open("rb") as file:
            done = pickle.load(file)
    todo = [row for row in rows if row["seed"] not in done]
    if todo:
        clips = [
            Clip(path=folder / r["clip"], transcript=r["text"] or None, id=r["clip"]) for r in todo
        ]
        with ClipReaders(options, workers=2) as readers:
            for index, content in readers.read(clips):
                if isinstance(content, OmniMSAError):
                    raise content
                done[todo[index]["seed"]] = StoredClip(content, todo[index])
                if len(done) % 500 == 0:
                    print(f"read {len(done)}/{len(rows)}", file=sys.stderr, flush=True)
        with stored.open("wb") as file:
            pickle.dump(done, file)
    return [done[row["seed"]] for row in rows if row["seed"] in done]
