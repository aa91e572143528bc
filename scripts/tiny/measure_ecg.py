"""The figures of the embedded checkpoints on hearts: records, disturbed records, and clips.

    python -m scripts.tiny.measure_ecg [--records 600] [--clips 200] [--checkpoint tiny-ecg]

The records are of seeds that nothing was trained on. The clips say nothing by words, voice and face
(the generator's case `heart_alone`), and their hearts are clearly calm or clearly racing. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from omni_msa.evaluation.presence import measure_presence
from omni_msa.media.record_files import LEADS, Channel, RawRecord
from omni_msa.media.records import clean_record
from omni_msa.options import AblationOptions, ModelOptions
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip, ClipContent
from scripts.tiny.clip_hearts import LONGEST_SECONDS
from scripts.tiny.clips import draw_spec, make
from scripts.tiny.heart import RATE, Heart, draw_heart, record
from scripts.tiny.hearts import FINDINGS, FIRST_SEEDS, SECONDS, heart_of

FULL = AblationOptions(enabled=False)
BATCH = 32
FIRST_CLIP = 9_000_000  # a seed of the tests


def content_of(values: np.ndarray, leads: tuple[str, ...]) -> ClipContent:
    """Leads [S, 12] in mV, of which these are there, as the reader would give them."""
    channels = [Channel(x, values[:, LEADS.index(x)].astype(np.float64)) for x in leads]
    reading = clean_record(Path("heart"), RawRecord(float(RATE), tuple(channels), "made"))
    return ClipContent(Clip("heart.hea"), "", {"ecg": reading.traces})


def macro_auc(scorer: Scorer, contents: list[ClipContent], hearts: list[Heart]) -> float:
    """Mean over the findings."""
    names = scorer.label_space.findings
    prepared = [scorer.prepare(content) for content in contents]
    records = [
        record
        for start in range(0, len(prepared), BATCH)
        for record in scorer.score_prepared(prepared[start : start + BATCH], FULL)
    ]
    probabilities = np.array([[(r.findings or {})[name] for name in names] for r in records])
    presence = np.array([[FINDINGS[h.kind] == name for name in names] for h in hearts])
    figures = measure_presence(probabilities, presence.astype(float), names, "finding")
    return round(figures["auc mean"], 4)


def record_figures(scorer: Scorer, count: int) -> dict[str, float]:
    """Macro AUC on whole records, and with a lead missing, few leads, or the mains' hum."""
    seeds = range(FIRST_SEEDS["test"], FIRST_SEEDS["test"] + count)
    hearts = [heart_of(seed) for seed in seeds]
    values = [record(heart, SECONDS) for heart in hearts]
    rows = {"whole": LEADS, "I, II": ("I", "II"), "II alone": ("II",)}
    rows |= {f"without {x}": tuple(lead for lead in LEADS if lead != x) for x in LEADS}
    figures = {
        name: macro_auc(scorer, [content_of(v, leads) for v in values], hearts)
        for name, leads in rows.items()
    }
    for mains in (0.1, 0.3):
        noisy = [record(heart_of(seed, mains), SECONDS) for seed in seeds]
        contents = [content_of(v, LEADS) for v in noisy]
        figures[f"60 Hz of {mains} mV"] = macro_auc(scorer, contents, hearts)
    return figures


def clips_with_hearts(folder: Path, count: int) -> Iterator[tuple[Clip, float]]:
    """Rendered clips with a heart beside each, and its arousal."""
    for number in range(count):
        seed = FIRST_CLIP + number
        rng = np.random.default_rng([seed, 31])
        arousal = float(rng.choice([rng.uniform(0.0, 0.2), rng.uniform(0.8, 1.0)]))
        spec = draw_spec(seed, "heart_alone", "both")
        path = make(spec, folder / str(seed))
        heart = record(draw_heart("sinus", arousal, seed), 2 * LONGEST_SECONDS)
        time = np.arange(len(heart)) / RATE
        table = {"time": time, **{x: heart[:, LEADS.index(x)] for x in ("I", "II")}}
        csv.write_csv(pa.table(table), path.with_name(f"{path.stem}.ecg.csv"))
        yield Clip(path, transcript=spec.text), arousal


def clip_figures(count: int) -> dict[str, float]:
    """How often the heart has the largest contribution, and its right sign."""
    scorer = Scorer.load()
    with tempfile.TemporaryDirectory() as folder:
        pairs = list(clips_with_hearts(Path(folder), count))
        records = list(scorer.score_many([clip for clip, _ in pairs]))
    shares = [r.ablation.contribution for r in records if r.ablation is not None]
    largest = [max(s, key=lambda m: abs(s[m])) == "ecg" for s in shares]
    signs = [
        (s["ecg"] > 0) == (arousal < 0.5) for s, (_, arousal) in zip(shares, pairs, strict=True)
    ]
    return {
        "clips": count,
        "largest contribution": round(float(np.mean(largest)), 3),
        "right sign": round(float(np.mean(signs)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=600)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--checkpoint", default="tiny-ecg")
    arguments = parser.parse_args()
    result: dict[str, dict[str, float]] = {}
    if arguments.records:
        scorer = Scorer.load(ModelOptions(checkpoint=arguments.checkpoint))
        result["records, macro AUC"] = record_figures(scorer, arguments.records)
    if arguments.clips:
        result["clips"] = clip_figures(arguments.clips)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
