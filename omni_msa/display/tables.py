"""Evaluations, inspections and plans as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from omni_msa.display.output import line, print_json, show_parts
from omni_msa.display.wide import WideTable

if TYPE_CHECKING:
    from pathlib import Path

    from omni_msa.evaluation.evaluate import Evaluation
    from omni_msa.evaluation.label_gap import LabelGap
    from omni_msa.evaluation.presence import PresenceFigures
    from omni_msa.evaluation.resampling import Basis, Difference
    from omni_msa.scoring.checkpoint import CheckpointInfo
    from omni_msa.scoring.inspection import Inspection
    from omni_msa.scoring.planning import Plan

Comparison = tuple["Evaluation", Mapping[str, "Difference"], "Basis"]  # with, changes, on which
Spread = Mapping[str, tuple[float, float]]  # mean and deviation over seeds, by metric


def evaluation_document(
    evaluations: Sequence[Evaluation],
    spread: Spread,
    comparisons: Sequence[Comparison],
    ablation_spread: Mapping[str, Spread] | None = None,
) -> dict[str, Any]:
    """Everything that `evaluate` prints, as one JSON document.

    `against` and `difference` are those of the first comparison; `comparisons` has all of them.
    """
    from omni_msa.evaluation.evaluate import differences_json

    document: dict[str, Any] = {"runs": [evaluation.to_json() for evaluation in evaluations]}
    if spread:
        document["over_seeds"] = _spread_json(spread)
    if ablation_spread:
        document["ablation_over_seeds"] = {
            name: _spread_json(row) for name, row in ablation_spread.items()
        }
    if comparisons:
        document["comparisons"] = [
            {
                "against": other.to_json(),
                "difference": {
                    "clips": basis.num_clips,
                    "intervals_over": basis.to_json(),
                    **differences_json(change),
                },
            }
            for other, change, basis in comparisons
        ]
        document |= document["comparisons"][0]
    return document


def _spread_json(spread: Spread) -> dict[str, Any]:
    return {
        key: {"mean": _json_number(mean), "deviation": _json_number(deviation)}
        for key, (mean, deviation) in spread.items()
    }


def print_evaluation(
    evaluations: Sequence[Evaluation],
    spread: Spread,
    comparisons: Sequence[Comparison],
    ablation_spread: Mapping[str, Spread] | None = None,
) -> None:
    """One table a checkpoint; then means over seeds, and differences to other checkpoints.

    What the metrics are comes last, once.
    """
    for evaluation in evaluations:
        show_parts(*_evaluation_parts(evaluation))
    first = evaluations[0]
    if spread:
        table = WideTable("metric", "mean", "deviation", "mean predictor")
        for key, (mean, deviation) in spread.items():
            baseline = _four_digits(first.baseline[key])
            table.add_row(
                first.family.short[key], _four_digits(mean), _four_digits(deviation), baseline
            )
        show_parts(line(f"over {len(evaluations)} seeds (mean, sample deviation)"), table, line())
    if ablation_spread:
        headline = f"ablation over {len(evaluations)} seeds (mean ± sample deviation)"
        show_parts(line(headline), _ablation_spread_table(first, ablation_spread), line())
    for other, change, basis in comparisons:
        show_parts(*_evaluation_parts(other))
        on = f"on {basis.num_clips} clips (95 % paired bootstrap over {basis})"
        show_parts(
            line(f"difference to {other.system}, {on}"),
            _difference_table(first, change),
            line(),
        )
    show_parts(*_definitions([*evaluations, *(other for other, *_ in comparisons)]))


def _ablation_spread_table(evaluation: Evaluation, spread: Mapping[str, Spread]) -> Table:
    keys = list(evaluation.family.titles)
    table = Table("shown", box=None, pad_edge=False)
    for key in keys:
        table.add_column(evaluation.family.short[key], justify="right")
    for name, row in spread.items():
        table.add_row(name, *(_mean_and_deviation(*row[key]) for key in keys))
    return table


def _mean_and_deviation(mean: float, deviation: float) -> str:
    return "undefined" if math.isnan(mean) else f"{mean:.3f} ±{deviation:.3f}"


def _evaluation_parts(evaluation: Evaluation) -> list[Any]:
    family, figures = evaluation.family, evaluation.figures
    headline = f"{evaluation.system}: {figures.num_clips} clips"
    if evaluation.failed:
        headline += f", {evaluation.failed} more could not be scored"
    table = WideTable("", "value", "95 %", "mean")
    for key in family.titles:
        table.add_row(
            family.short[key],
            _four_digits(figures.values[key]),
            _interval(*figures.intervals[key]),
            _four_digits(evaluation.baseline[key]),
        )
    parts: list[Any] = [line(headline), table, line(f"mean: {evaluation.baseline_name}")]
    parts.append(line(f"95 %: bootstrap over {figures.basis}"))
    if (coverage := evaluation.coverage) is not None:
        about = f"{coverage.share:.1%} of the labels of {coverage.num_clips} clips lie inside"
        parts.append(line(f"90 % intervals: {about}, mean width {coverage.width:.4f}"))
    if evaluation.presence is not None:
        parts += [line(), *_presence_parts(evaluation.presence)]
    parts += _answer_quality(evaluation)
    if evaluation.label_gap is not None:
        parts.append(line(_label_gap(evaluation.label_gap)))
    parts += [line(f"note: {notice}") for notice in evaluation.notices]
    if evaluation.ablation:
        parts += [line(), *_ablation_parts(evaluation)]
    return [*parts, line()]


def _presence_parts(figures: PresenceFigures) -> list[Any]:
    """One line a name, and their mean."""
    from omni_msa.evaluation.presence import TITLES

    titles = TITLES[figures.noun]
    table = WideTable(figures.noun, *(column for key in titles for column in (key, "95 %")))
    for name, row in figures.values.items():
        cells = [(_four_digits(row[key]), _interval(*figures.intervals[name][key])) for key in row]
        table.add_row(name, *(text for pair in cells for text in pair))
    meanings = [line(f"{key}: {title}") for key, title in titles.items()]
    return [line(f"{figures.noun}s of {figures.num_clips} clips"), table, *meanings]


def _definitions(evaluations: Sequence[Evaluation]) -> list[Any]:
    """Each metric's name and its convention, of however many checkpoints."""
    titles = {
        (evaluation.family.short[key], title): None
        for evaluation in evaluations
        for key, title in evaluation.family.titles.items()
    }
    table = _fact_table()
    for short, title in titles:
        table.add_row(line(short), line(title))
    return [line("what the metrics are"), table]


def _answer_quality(evaluation: Evaluation) -> list[Any]:
    """Of scores parsed from text: shares of bad answers, and metrics without unparsable ones."""
    if not evaluation.answers:
        return []
    shares = ", ".join(
        f"{share:.1%} {name.replace('_', ' ')}" for name, share in evaluation.answers.items()
    )
    lines = [line(f"said: {shares} (unparsable counts as 0, out of range is clipped)")]
    if evaluation.parsable_only is not None:
        parsable_only = evaluation.parsable_only
        values = ", ".join(
            f"{evaluation.family.short[key]} {_four_digits(value)}"
            for key, value in parsable_only.values.items()
        )
        lines.append(line(f"unparsable excluded ({parsable_only.num_clips} clips): {values}"))
    return lines


def _label_gap(label_gap: LabelGap) -> str:
    """`label gap to the nearest states of 686 clips: k 5 0.950 (permuted labels 1.896), ...`"""
    gaps = [f"k {g.k} {g.gap:.3f} (permuted labels {g.permuted_gap:.3f})" for g in label_gap.gaps]
    head = f"label gap to the nearest states of {label_gap.num_clips} clips"
    return f"{head}: {', '.join(gaps) or 'too few could be read'}"


def _ablation_parts(evaluation: Evaluation) -> list[Any]:
    family = evaluation.family
    keys = list(family.titles)
    short = [family.short[key] for key in keys]
    table = WideTable("shown", *short, f"change of {short[0]} (95 %)")
    for name, row in evaluation.ablation.items():
        values = [_four_digits(row.figures.values[key]) for key in keys]
        change = row.change[keys[0]]
        change_text = f"{change.value:+.3f} {_interval(change.low, change.high)}"
        table.add_row(name, *values, "" if name == list(evaluation.ablation)[-1] else change_text)
    table.add_row("mean", *(_four_digits(evaluation.ablation_baseline[key]) for key in keys), "")
    clips = next(iter(evaluation.ablation.values())).figures.num_clips
    whole = list(evaluation.ablation)[-1]
    headline = f"ablation on the {clips} clips that have {whole}; {evaluation.protocol}"
    return [line(headline), table]


def _difference_table(evaluation: Evaluation, change: Mapping[str, Difference]) -> WideTable:
    table = WideTable("metric", "change", "95 %")
    for key, difference in change.items():
        short = evaluation.family.short[key]
        value = "undefined" if math.isnan(difference.value) else f"{difference.value:+.4f}"
        table.add_row(short, value, _interval(difference.low, difference.high))
    return table


def print_inspection(inspection: Inspection) -> None:
    """The facts of a checkpoint, one a line."""
    info, table = inspection.info, _fact_table()
    low, high = info.label_space.range
    lora_layers = ", ".join(f"{count} in the {part}" for part, count in inspection.wrapped.items())
    lora = "none: the base as it is"
    if info.lora:
        percent = info.lora.get("percent")
        share = f" ({percent} %)" if percent is not None else ""
        size = f"rank {info.lora['rank']}, {info.lora['parameters']:,} parameters{share}"
        lora = f"{size}; {lora_layers}"
    rows = {
        "checkpoint": str(inspection.folder),
        "base": f"{info.base} ({info.base_sha256[:12]})",
        "readout": f"{info.method} {_key_values(info.method_options)}, "
        f"{inspection.readout_parameters:,} parameters, fp32",
        "labels": ", ".join(info.label_space.names)
        or f"{low:+g} to {high:+g}, mean {info.label_space.mean:+.3f}, "
        f"deviation {info.label_space.deviation:.3f}",
        "LoRA": lora,
        "trained under": f"quantize {info.quantize}, seed {info.seed}",
        "linear layers": _key_values(inspection.quantized),
        "never shown": ", ".join(info.hide) or "nothing is hidden",
        "media": _key_values(info.media),
        "training": _training(inspection),
        "metrics": _metrics(info),
        "intervals": _intervals(info),
        "versions": _key_values(info.versions),
        "built-in clip": _self_check(inspection),
    }
    for name, value in rows.items():
        table.add_row(name, line(value))
    show_parts(table)


def _training(inspection: Inspection) -> str:
    """What it was trained on, and whether that has ended."""
    record = inspection.info.training
    parts = [f"{record[n]} clips" for n in ("train_clips", "clips") if n in record]
    titles = {"epochs": "epochs at most", "batch_size": "clips a pass"}
    titles["accumulate"] = "passes a step"
    parts += [f"{record[name]} {title}" for name, title in titles.items() if name in record]
    rates = {"lora_learning_rate": "LoRA's", "head_learning_rate": "the head's"}
    parts += [f"{title} rate {record[name]:g}" for name, title in rates.items() if name in record]
    if not inspection.finished:
        parts.append("UNFINISHED: the same command of train goes on")
    return ", ".join(parts) or "not recorded"


def _metrics(info: CheckpointInfo) -> str:
    """On which clips, and of which epoch."""
    figures = dict(info.metrics)
    clips, epoch = figures.pop("clips", None), info.training.get("best_epoch")
    on = f" on {clips:g} validation clips" if clips is not None else ""
    which = f"; epoch {epoch} is kept" if epoch is not None else ""
    return f"{_key_values(figures)}{on}{which}" if figures else "none recorded"


def _intervals(info: CheckpointInfo) -> str:
    """How wide they are to either side, by what is shown."""
    from omni_msa.scoring.intervals import FEWEST, HALF_WIDTH

    if info.label_space.names:
        return "none: a class has none"
    rows = {name: (row["clips"], row[HALF_WIDTH]) for name, row in info.intervals.items()}
    widths = [
        f"{name} ±{width:.2f} ({n})" for name, (n, width) in rows.items() if width is not None
    ]
    few = [f"{name} ({n})" for name, (n, width) in rows.items() if width is None]
    parts = [f"90 %, by what is shown (clips): {', '.join(widths)}"] if widths else []
    parts += [f"none with fewer than {FEWEST} clips: {', '.join(few)}"] if few else []
    return "; ".join(parts) or "none: no validation residuals are kept"


def _fact_table() -> Table:
    """Names of facts, never broken, and the facts."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _self_check(inspection: Inspection) -> str:
    if inspection.check == "none":
        return "no score was recorded"
    score = inspection.scores[max(inspection.scores, key=len)]
    difference = inspection.largest_difference or 0.0
    result = f"scores {score:+.4f}; differs by {difference:.2g} at most from what was recorded"
    if inspection.check == "failed":
        return f"FAILED: {result}; the checkpoint, its base or a library does not do what it did"
    if inspection.check == "other conditions":
        conditions = inspection.info.self_check
        return f"{result} under {conditions['quantize']} on {conditions['device']}: not comparable"
    return f"verified: {result}"


def print_plan(plan: Plan) -> None:
    """Tokens and memory of a plan, one a line."""
    facts = plan.to_json()
    table = _fact_table()
    media = f"{facts['max_frames']} frames of {facts['max_pixels']} pixels at most"
    table.add_row("model", line(f"{facts['model']}, {facts['parameters']:,} parameters"))
    if plan.trainable:
        table.add_row(
            "LoRA", f"{facts['trainable']:,} parameters ({facts['trainable_percent']:.4f} %)"
        )
    table.add_row("clips", f"{facts['seconds']:g} s, {media}, {facts['batch_size']} a pass")
    table.add_row("tokens a clip", _key_values(facts["tokens"]))
    table.add_row("held", _key_values(facts["holding"]))
    for name, gib in facts["gib"].items():
        table.add_row(name, f"{gib:.2f} GiB")
    if facts["budget_gib"]:
        table.add_row("budget", f"{facts['budget_gib']:.2f} GiB")
    show_parts(table, line("an estimate; python -m scripts.bench.thinker measures it"))


def _key_values(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {round(value, 4) if isinstance(value, float) else value}"
        for name, value in values.items()
    )


def _four_digits(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{low:.3f}, {high:.3f}]"


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def print_trained(folder: Path, info: CheckpointInfo, as_json: bool) -> None:
    """The folder of a checkpoint and its metrics on validation clips."""
    figures = {name: round(value, 4) for name, value in info.metrics.items()}
    left_out, epoch = info.training.get("left_out", []), info.training.get("best_epoch")
    if as_json:
        document = {"checkpoint": str(folder), "readout": info.method, "metrics": figures}
        document |= {"epoch": epoch} if epoch is not None else {}
        print_json(document | {"left_out": left_out})
        return
    if "leave_one_out_mae" in figures or "leave_one_out_error_rate" in figures:
        (name, value), *_ = figures.items()
        title = name.removeprefix("leave_one_out_").replace("mae", "MAE").replace("_", " ")
        clips = info.training.get("clips")
        summary = f"{title} {value:g} on each of its {clips} clips by the others (leave one out)"
    else:
        summary = ", ".join(f"{name} {value:g}" for name, value in figures.items())
    if epoch is not None:
        summary = f"epoch {epoch} is kept, the best on the validation clips: {summary}"
    summary += f", {len(left_out)} clips left out" if left_out else ""
    show_parts(line(f"{folder}: {info.method}, {summary}"))
