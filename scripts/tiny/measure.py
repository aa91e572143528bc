"""Measures a checkpoint on held-out synthetic clips and held-out human-rated sentences.

    python -m scripts.tiny.measure --corpus TEST --sentences FOLDER [--model DIR --checkpoint DIR]

Clips are decoded from their encoded files by the product's own reader; their words come from the
generator's grammar, their seeds from a range that training never sees. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from omni_msa.evaluation.coverage import coverage_of
from omni_msa.evaluation.evaluate import ScoredClip
from omni_msa.files.record import Record
from omni_msa.options import AblationOptions, ModelOptions
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import ClipContent
from scripts.tiny.adapter import labelled, words_alone
from scripts.tiny.clip_store import StoredClip, load_store
from scripts.tiny.sentences import load_sentences

ALONE = {"words_alone": "text", "voice_alone": "audio", "face_alone": "video"}
FULL = AblationOptions()


def score_all(scorer: Scorer, contents: list[ClipContent]) -> list[Record]:
    """Records of all contents, in order, in batches of clips with the same modalities."""
    prepared = [scorer.prepare(c) for c in contents]
    order = sorted(
        range(len(contents)), key=lambda i: (prepared[i].pattern, prepared[i].num_tokens)
    )
    records: dict[int, Record] = {}
    for start in range(0, len(order), 16):
        part = order[start : start + 16]
        for i, record in zip(part, scorer.score_prepared([prepared[i] for i in part], FULL),
                             strict=True):  # fmt: skip
            records[i] = record
    return [records[i] for i in range(len(contents))]


def agreement(guess: list[float], truth: list[float]) -> dict[str, float]:
    """MAE, Pearson r, and the MAE of always guessing the mean."""
    p, y = np.array(guess), np.array(truth)
    r = float(np.corrcoef(p, y)[0, 1])
    floor = float(np.abs(y - y.mean()).mean())
    mae = float(np.abs(p - y).mean())
    return {"n": len(y), "mae": round(mae, 3), "r": round(r, 3), "mean_mae": round(floor, 3)}


def measure_clips(scorer: Scorer, clips: list[StoredClip]) -> dict:
    """Agreement with everything and with each modality alone; contributions by case."""
    contents = [labelled(c) for c in clips]
    records = score_all(scorer, contents)
    whole = [(r.score, c.clip.label) for r, c in zip(records, contents, strict=True)]
    result = {"everything": agreement([s for s, _ in whole], [y for _, y in whole])}
    scored = [
        ScoredClip(r.clip, c.clip.label, r.score, interval=r.interval)
        for r, c in zip(records, contents, strict=True)
    ]
    if (coverage := coverage_of(scored)) is not None:
        result["intervals_90"] = {
            "n": coverage.num_clips,
            "coverage": round(coverage.share, 3),
            "mean_width": round(coverage.width, 3),
        }
    for letter, name in (("T", "text"), ("A", "audio"), ("V", "video")):
        pairs = [(r.ablation.subsets[letter], c.clip.subset_labels[letter])
                 for r, c in zip(records, contents, strict=True) if name in c.present]  # fmt: skip
        result[f"{name}_alone"] = agreement([s for s, _ in pairs], [y for _, y in pairs])
    for case, modality in ALONE.items():
        hits = [
            max(r.ablation.contribution, key=lambda m: abs(r.ablation.contribution[m])) == modality
            for r, c in zip(records, clips, strict=True)
            if c.row["case"] == case and len(c.content.present) == 3
        ]
        result[f"largest_contribution_{case}"] = {"n": len(hits), "share": round(np.mean(hits), 3)}
    nobody = [
        abs(r.score) for r, c in zip(records, clips, strict=True) if c.row["case"] == "nobody"
    ]
    if nobody:  # an empty room and no voice should say nothing
        worst = round(float(np.max(nobody)), 3)
        result["nobody"] = {"n": len(nobody), "mean": round(np.mean(nobody), 3), "worst": worst}
    glad = [
        max(r.ablation.contribution, key=lambda m: r.ablation.contribution[m]) == "video"
        for r, c in zip(records, clips, strict=True)
        if c.row["case"] == "face_alone" and c.row["terms"]["video"] > 0
        and len(c.content.present) == 3
    ]  # fmt: skip
    result["largest_contribution_glad_face_alone"] = {
        "n": len(glad),
        "share": round(np.mean(glad), 3),
    }
    return result


def movement(scorer: Scorer, exact: Scorer, clips: list[StoredClip]) -> dict[str, float]:
    """How far quantization moves the scores of the same clips."""
    contents = [c.content for c in clips]
    pairs = zip(score_all(scorer, contents), score_all(exact, contents), strict=True)
    moved = np.abs([q.score - e.score for q, e in pairs])
    high = np.quantile(moved, 0.95)
    figures = {"mean": moved.mean(), "p95": high, "max": moved.max()}
    return {"n": len(moved)} | {name: round(float(v), 3) for name, v in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--checkpoint")
    parser.add_argument("--quantize", default="auto")
    arguments = parser.parse_args()
    scorer = Scorer.load(
        ModelOptions(arguments.model, arguments.checkpoint, quantize=arguments.quantize)
    )
    result: dict = {}
    if arguments.corpus:
        clips = load_store(arguments.corpus, scorer.media)
        result["clips"] = measure_clips(scorer, clips)
        if arguments.quantize in ("4bit", "8bit"):
            exact = Scorer.load(
                ModelOptions(arguments.model, arguments.checkpoint, quantize="none")
            )
            result[f"moved_by_{arguments.quantize}"] = movement(scorer, exact, clips)
    if arguments.sentences:
        held_out = [s for s in load_sentences(arguments.sentences) if s.held_out]
        for genre in sorted({s.genre for s in held_out}):
            part = [s for s in held_out if s.genre == genre]
            records = score_all(scorer, [words_alone(s.text, s.rating) for s in part])
            result[genre] = agreement([r.score for r in records], [s.rating for s in part])
    for name, figures in result.items():
        print(name, json.dumps(figures, indent=2) if name == "clips" else figures)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
