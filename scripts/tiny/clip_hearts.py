"""Gives the embedded checkpoint a heart: what a clip's ECG adds to its states.

    python -m scripts.tiny.clip_hearts OUT --base BASE --checkpoint DIR --corpus TRAIN --valid VALID

Clips of the synthetic corpus get a heart that is calm or racing, in agreement with voice and face,
against them, or regardless of them; a calm one adds to the stated sentiment, a racing one takes
away (`heart_term`). Adapter and head stay as they are, bit for bit, so that a clip without an ECG
is scored as before; only the encoder of the heart is trained, on the states of the same clips.

Shapes: K subsets of a clip, H width of the states.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from omni_msa.media.record_files import LEADS, Channel, RawRecord
from omni_msa.media.records import clean_record
from omni_msa.methods import make_method
from omni_msa.methods.regression import Regression
from omni_msa.modalities import Subset, all_subsets
from omni_msa.model.traces import lead_columns
from omni_msa.options import ModelOptions
from omni_msa.scoring.checkpoint import save_checkpoint
from omni_msa.scoring.intervals import Residuals, intervals_record
from omni_msa.scoring.scorer import Scorer
from omni_msa.scoring.self_check import check_scores
from scripts.tiny.clip_store import StoredClip, load_store
from scripts.tiny.clips import LIMIT
from scripts.tiny.heart import RATE, draw_heart, record
from scripts.tiny.pretrain import media_options

HEART = 1.5  # what a calm heart adds, and a racing one takes away
SHOWN_LEADS = (LEADS, ("I", "II"), ("II",))
ECG = frozenset({"ecg"})
LONGEST_SECONDS = 8.0
BATCH = 32


def heart_term(arousal: float) -> float:
    """From 1.5 of a calm heart (arousal 0) to -1.5 of a racing one (1)."""
    return HEART * (1 - 2 * arousal)


def arousal_of(terms: dict[str, float], rng: np.random.Generator) -> float:
    """Of a clip's heart: a third agree with voice and face, a third do not, a third are free."""
    far = rng.uniform(0.5, 1.0)
    sign = np.sign(terms["audio"] + terms["video"]) * rng.choice([-1, 0, 1])
    return float({-1.0: far, 0.0: rng.uniform(0, 1), 1.0: 1 - far}[float(sign)])


@dataclass(frozen=True)
class ClipHeart:
    """A clip's states [K, H] under its own subsets, and a heart: leads [S, 12] and its term."""

    clip: StoredClip
    subsets: tuple[Subset, ...]
    states: torch.Tensor
    leads: torch.Tensor
    term: float

    @property
    def labels(self) -> torch.Tensor:
        """The stated sentiment of each subset with the heart [K]."""
        own = [self.clip.sentiment(subset) for subset in self.subsets]
        return (torch.tensor(own) + self.term).clamp(-LIMIT, LIMIT)


def draw_leads(seed: int, arousal: float, seconds: float, shown: tuple[str, ...]) -> torch.Tensor:
    """A recording as the reader would give it: [S, 12]."""
    heart = draw_heart("sinus", arousal, seed)
    values = record(heart, seconds)
    channels = tuple(
        Channel(lead, values[:, LEADS.index(lead)].astype(np.float64)) for lead in shown
    )
    raw = RawRecord(float(RATE), channels, "made")
    return lead_columns(clean_record(Path("heart"), raw).traces)


def with_hearts(scorer: Scorer, clips: list[StoredClip], first_seed: int) -> list[ClipHeart]:
    """Every clip's states, and a heart of its own."""
    hearts = []
    for number, clip in enumerate(clips):
        inputs = scorer.prepare(clip.content).inputs
        subsets = all_subsets(inputs.present)
        with torch.inference_mode():
            states = scorer.thinker.forward(scorer.thinker.batch([inputs], [subsets]))[0]
        rng = np.random.default_rng([first_seed + number, 21])
        arousal = arousal_of(clip.row["terms"], rng)
        seconds = min(LONGEST_SECONDS, max(3.0, clip.content.media["duration_seconds"] or 3.0))
        shown = SHOWN_LEADS[int(rng.integers(len(SHOWN_LEADS)))]
        leads = draw_leads(first_seed + number, arousal, seconds, shown)
        hearts.append(ClipHeart(clip, subsets, states.clone(), leads, heart_term(arousal)))
        if (number + 1) % 200 == 0:
            print(f"{number + 1}/{len(clips)} clips", file=sys.stderr, flush=True)
    return hearts


def scores_of(method: Regression, clips: list[ClipHeart]) -> list[torch.Tensor]:
    """With the heart shown: [K] a clip, as outputs of the head, in z-scores."""
    assert method.heart is not None
    added = method.heart([clip.leads for clip in clips])  # [B, H]
    return [method(clip.states + row)[..., 0] for clip, row in zip(clips, added, strict=True)]


def train(
    method: Regression, clips: list[ClipHeart], valid: list[ClipHeart], epochs: int, seed: int
) -> None:
    """Only the heart is trained, by the absolute error in z-scores."""
    assert method.heart is not None
    method.eval().requires_grad_(False)
    method.heart.requires_grad_(True)
    optimizer = torch.optim.AdamW(method.heart.parameters(), lr=2e-3, weight_decay=0.01)
    steps = epochs * (len(clips) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    order, space = np.random.default_rng(seed), method.label_space
    torch.manual_seed(seed)
    for epoch in range(1, epochs + 1):
        method.heart.train()
        places = order.permutation(len(clips))[: len(clips) // BATCH * BATCH]
        for rows in places.reshape(-1, BATCH):
            batch = [clips[i] for i in rows]
            outputs = torch.cat(scores_of(method, batch))
            labels = space.normalise(torch.cat([clip.labels for clip in batch]))
            loss = (outputs - labels).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        method.heart.eval()
        print(
            f"epoch {epoch}: validation MAE {mae(method, valid):.3f}", file=sys.stderr, flush=True
        )


@torch.inference_mode()
def residuals(method: Regression, clips: list[ClipHeart]) -> list[Residuals]:
    """How far the scores with the heart are from their labels, by subset."""
    rows = []
    for start in range(0, len(clips), BATCH):
        part = clips[start : start + BATCH]
        for clip, outputs in zip(part, scores_of(method, part), strict=True):
            misses = (method.label_space.restore(outputs[:, None]) - clip.labels).abs().tolist()
            by_subset = {s | ECG: miss for s, miss in zip(clip.subsets, misses, strict=True)}
            rows.append(Residuals(clip.subsets[-1] | ECG, by_subset))
    return rows


def mae(method: Regression, clips: list[ClipHeart]) -> float:
    """Of whole clips with their hearts."""
    return float(np.mean([row.by_subset[row.whole] for row in residuals(method, clips)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=2000, help="of the corpus, at most")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    media = media_options()
    scorer = Scorer.load(ModelOptions(arguments.base, arguments.checkpoint))
    train_clips = with_hearts(scorer, load_store(arguments.corpus, media)[: arguments.clips], 0)
    valid_clips = with_hearts(scorer, load_store(arguments.valid, media), 1_000_000)
    torch.manual_seed(arguments.seed)
    options = asdict(scorer.method.options) | {"ecg": True}
    method = make_method("regression", scorer.thinker, scorer.label_space, options)
    assert isinstance(method, Regression)
    stated = scorer.method.state_dict()
    method.load_state_dict(method.state_dict() | stated)
    train(method, train_clips, valid_clips, arguments.epochs, arguments.seed)

    info = scorer.checkpoint.info
    with_ecg = intervals_record(residuals(method, valid_clips))
    intervals = info.intervals | {k: row for k, row in with_ecg.items() if k.endswith("E")}
    builder = method.builder(scorer.thinker, info.prompt_version)
    check = check_scores(scorer.thinker, method, builder, scorer.media, frozenset(info.hide))
    figures = {"clips": len(train_clips), "mae": round(mae(method, valid_clips), 4)}
    training = info.training | {"heart": figures}
    save_checkpoint(
        arguments.out, scorer.thinker, method,
        replace(info, intervals=intervals, self_check=check, training=training),
    )  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
