"""Evaluations, inspections and plans as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from omni_msa.display.output import print_json, show_parts

if TYPE_CHECKING:
    from pathlib import Path

    from omni_msa.evaluation.evaluate import Evaluation
    from omni_msa.evaluation.metrics import Difference
    from omni_msa.scoring.checkpoint import CheckpointInfo
    from omni_msa.scoring.inspection import Inspection
    from omni_msa.scoring.planning import Plan

Compared = tuple["Evaluation", Mapping[str, "Difference"], int]  # the other, changes, clips


def evaluation_document(
    evaluations: Sequence[Evaluation],
    spread: Mapping[str, tuple[float, float]],
    compared: Compared | None,
) -> dict[str, Any]:
    """Everything that `evaluate` prints, as one JSON document."""
    from omni_msa.evaluation.evaluate import differences_json

    document: dict[str, Any] = {"runs": [evaluation.to_json() for evaluation in evaluations]}
    if spread:
        document["over_seeds"] = {
            key: {"mean": _value(mean), "deviation": _value(deviation)}
            for key, (mean, deviation) in spread.items()
        }
    if compared:
        other, change, clips = compared
        document["against"] = other.to_json()
        document["difference"] = {"clips": clips, **differences_json(change)}
    return document


def print_evaluation(
    evaluations: Sequence[Evaluation],
    spread: Mapping[str, tuple[float, float]],
    compared: Compared | None,
) -> None:
    """A table a checkpoint; over seeds, means and deviations; against another, differences."""
    for evaluation in evaluations:
        show_parts(*_evaluation(evaluation))
    first = evaluations[0]
    if spread:
        heads = ("metric", "mean", "deviation", "mean predictor")
        table = Table(*heads, box=None, pad_edge=False)
        for key, (mean, deviation) in spread.items():
            always = _shown(first.baseline[key])
            table.add_row(first.family.short[key], _shown(mean), _shown(deviation), always)
        show_parts(Text(f"over {len(evaluations)} seeds (mean, sample deviation)"), table, Text())
    if compared:
        other, change, clips = compared
        show_parts(*_evaluation(other))
        show_parts(
            Text(f"difference to {other.system}, on {clips} clips (95 % paired bootstrap)"),
            _differences(first, change),
            Text(),
        )


def _evaluation(evaluation: Evaluation) -> list[Any]:
    family, figures = evaluation.family, evaluation.figures
    head = f"{evaluation.system}: {figures.num_clips} clips"
    if evaluation.failed:
        head += f", {evaluation.failed} more could not be scored"
    table = Table(box=None, pad_edge=False)
    for name, justify in (("", "left"), ("value", "right"), ("95 %", "right"), ("mean", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("what it is", overflow="fold")
    for key, title in family.titles.items():
        table.add_row(
            Text(family.short[key]),
            _shown(figures.values[key]),
            _span(*figures.intervals[key]),
            _shown(evaluation.baseline[key]),
            Text(title),
        )
    parts: list[Any] = [Text(head), table, Text(f"mean: {evaluation.baseline_name}")]
    parts += _said(evaluation)
    parts += [Text(f"note: {notice}") for notice in evaluation.notices]
    if evaluation.ablation:
        parts += [Text(), *_ablation(evaluation)]
    return [*parts, Text()]


def _said(evaluation: Evaluation) -> list[Any]:
    """Of scores parsed from text: unparsable counted as 0 above, and what it is without them."""
    if not evaluation.answers:
        return []
    shares = ", ".join(
        f"{share:.1%} {name.replace('_', ' ')}" for name, share in evaluation.answers.items()
    )
    lines = [Text(f"said: {shares} (unparsable counts as 0, out of range is clipped)")]
    if evaluation.parsable_only is not None:
        only = evaluation.parsable_only
        told = ", ".join(
            f"{evaluation.family.short[key]} {_shown(value)}" for key, value in only.values.items()
        )
        lines.append(Text(f"unparsable excluded ({only.num_clips} clips): {told}"))
    return lines


def _ablation(evaluation: Evaluation) -> list[Any]:
    family = evaluation.family
    keys = list(family.titles)
    table = Table("shown", box=None, pad_edge=False)
    for key in keys:
        table.add_column(family.short[key], justify="right")
    table.add_column(f"change of {family.short[keys[0]]} (95 %)", justify="right")
    for name, row in evaluation.ablation.items():
        values = [_shown(row.figures.values[key]) for key in keys]
        change = row.change[keys[0]]
        told = f"{change.value:+.3f} {_span(change.low, change.high)}"
        table.add_row(name, *values, "" if name == list(evaluation.ablation)[-1] else told)
    table.add_row("mean", *(_shown(evaluation.ablation_baseline[key]) for key in keys), "")
    clips = next(iter(evaluation.ablation.values())).figures.num_clips
    whole = list(evaluation.ablation)[-1]
    head = f"ablation on the {clips} clips that have {whole}; {evaluation.protocol}"
    return [Text(head), table]


def _differences(evaluation: Evaluation, change: Mapping[str, Difference]) -> Table:
    table = Table("metric", "change", "95 %", box=None, pad_edge=False)
    for key, d in change.items():
        short = evaluation.family.short[key]
        value = "undefined" if math.isnan(d.value) else f"{d.value:+.4f}"
        table.add_row(Text(short), value, _span(d.low, d.high))
    return table


def print_inspection(found: Inspection) -> None:
    """A checkpoint, a fact a line."""
    info, table = found.info, Table(box=None, pad_edge=False, show_header=False)
    low, high = info.label_space.range
    wrapped = ", ".join(f"{count} in the {part}" for part, count in found.wrapped.items())
    lora = "none: the base as it is"
    if info.lora:
        percent = info.lora.get("percent")
        share = f" ({percent} %)" if percent is not None else ""
        lora = f"rank {info.lora['rank']}, {info.lora['parameters']:,} parameters{share}; {wrapped}"
    rows = {
        "checkpoint": str(found.folder),
        "base": f"{info.base} ({info.base_sha256[:12]})",
        "readout": f"{info.method} {_plain(info.method_options)}, "
        f"{found.readout_parameters:,} parameters, fp32",
        "labels": ", ".join(info.label_space.classes)
        or f"{low:+g} to {high:+g}, mean {info.label_space.mean:+.3f}, "
        f"deviation {info.label_space.deviation:.3f}",
        "LoRA": lora,
        "trained under": f"quantize {info.quantize}, seed {info.seed}",
        "linear layers": _plain(found.quantized),
        "never shown": ", ".join(info.hide) or "nothing is hidden",
        "media": _plain(info.media),
        "metrics": _plain(info.metrics) or "none recorded",
        "versions": _plain(info.versions),
        "built-in clip": _check(found),
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    show_parts(table)


def _check(found: Inspection) -> str:
    if found.check == "none":
        return "no score was recorded"
    score = found.scores[max(found.scores, key=len)]
    difference = found.largest_difference or 0.0
    told = f"scores {score:+.4f}; differs by {difference:.2g} at most from what was recorded"
    if found.check == "failed":
        return f"FAILED: {told}; the checkpoint, its base or a library does not do what it did"
    if found.check == "other conditions":
        recorded = found.info.self_check
        return f"{told} under {recorded['quantize']} on {recorded['device']}: not comparable"
    return f"verified: {told}"


def print_plan(made: Plan) -> None:
    """Tokens and memory, a line each."""
    told = made.to_json()
    table = Table(box=None, pad_edge=False, show_header=False)
    media = f"{told['max_frames']} frames of {told['max_pixels']} pixels at most"
    table.add_row("model", Text(f"{told['model']}, {told['parameters']:,} parameters"))
    if made.trainable:
        table.add_row(
            "LoRA", f"{told['trainable']:,} parameters ({told['trainable_percent']:.4f} %)"
        )
    table.add_row("clips", f"{told['seconds']:g} s, {media}, {told['batch_size']} a pass")
    table.add_row("tokens a clip", _plain(told["tokens"]))
    table.add_row("held", _plain(told["holding"]))
    for name, size in told["gib"].items():
        table.add_row(name, f"{size:.2f} GiB")
    if told["budget_gib"]:
        table.add_row("budget", f"{told['budget_gib']:.2f} GiB")
    show_parts(table, Text("an estimate; python -m scripts.bench.thinker measures it"))


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {round(value, 4) if isinstance(value, float) else value}"
        for name, value in values.items()
    )


def _shown(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _span(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{low:.3f}, {high:.3f}]"


def _value(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def print_trained(folder: Path, info: CheckpointInfo, as_json: bool) -> None:
    """Where the checkpoint is, and how good it was on validation clips."""
    figures = {name: round(value, 4) for name, value in info.metrics.items()}
    left_out = info.training.get("left_out", [])
    if as_json:
        document = {"checkpoint": str(folder), "readout": info.method, "metrics": figures}
        print_json(document | {"left_out": left_out})
        return
    told = ", ".join(f"{name} {value:g}" for name, value in figures.items())
    told += f", {len(left_out)} clips left out" if left_out else ""
    show_parts(Text(f"{folder}: {info.method}, {told}"))
