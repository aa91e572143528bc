"""One flat table holds all systems, and what is undefined is an empty cell."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from test_evaluate import ABLATE, CONSTANT, MOSI, QUICK, TABLE, constant_scores, scored

from omni_msa.display.tables import evaluation_document, print_evaluation
from omni_msa.errors import ConfigError
from omni_msa.evaluation.evaluate import ablation_over_seeds, compare, evaluate, over_seeds
from omni_msa.evaluation.flat_table import check_table, table_rows, write_table


def measured(name, options=QUICK, clips=None, **changes):
    clips = clips or scored()
    evaluation = evaluate(f"{name} (regression), split test", clips, MOSI, CONSTANT, options)
    return replace(evaluation, checkpoint=name, split="test", **changes)


def test_a_row_a_system_with_every_metric_and_its_interval(tmp_path):
    systems = {"system": [measured("new")], "seed": [], "against": [measured("old", failed=2)]}
    write_table(tmp_path / "all.csv", table_rows(systems))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))
    assert [(r["checkpoint"], r["role"], r["shown"], r["failed"]) for r in rows] == [
        ("new", "system", "all", "0"), ("old", "against", "all", "2"),
    ]  # fmt: skip
    figures = systems["system"][0].figures
    for key, value in figures.values.items():
        assert float(rows[0][key]) == pytest.approx(value, abs=1e-6)
        ends = [float(rows[0][f"{key}_{end}"]) for end in ("low", "high")]
        assert ends == pytest.approx(list(figures.intervals[key]), abs=1e-6)
    assert rows[0]["clips"] == "12" and rows[0]["split"] == "test"


def test_an_ablation_has_a_row_a_subset(tmp_path):
    evaluation = measured("a|b", ABLATE)
    rows = table_rows({"system": [evaluation]})
    assert [row["shown"] for row in rows] == ["all", *TABLE]
    assert rows[1]["clips"] == 9 and rows[1]["mae"] == round(
        evaluation.ablation["T"].figures.values["mae"], 6
    )
    write_table(tmp_path / "all.md", rows)
    lines = (tmp_path / "all.md").read_text().splitlines()
    assert len(lines) == 2 + 8 and lines[2].startswith(r"| a\|b | system | test | all | 12 |")
    low, high = evaluation.figures.intervals["mae"]
    assert f"{evaluation.figures.values['mae']:.4f} [{low:.3f}, {high:.3f}]" in lines[2]


def test_what_is_undefined_is_an_empty_cell(tmp_path):
    rows = table_rows({"system": [measured("flat", clips=constant_scores(5))]})
    assert rows[0]["corr"] is None
    for name in ("all.csv", "all.md"):
        write_table(tmp_path / name, rows)
        assert "nan" not in (tmp_path / name).read_text().lower()


def test_a_table_is_refused_before_anything_is_scored(tmp_path):
    check_table(tmp_path / "all.CSV")
    for path in (tmp_path / "all.xls", tmp_path / "no" / "all.md"):
        with pytest.raises(ConfigError, match="--table"):
            check_table(path)


def test_seeds_have_a_mean_and_a_deviation_of_each_subset():
    runs = [measured(f"seed{i}", ABLATE, scored(seed=i)) for i in range(3)]
    spread = ablation_over_seeds(runs)
    assert list(spread) == list(TABLE)
    values = [run.ablation["TA"].figures.values["mae"] for run in runs]
    mean = sum(values) / 3
    deviation = (sum((v - mean) ** 2 for v in values) / 2) ** 0.5
    assert spread["TA"]["mae"] == pytest.approx((mean, deviation))
    assert ablation_over_seeds([measured("a"), measured("b")]) == {}


def test_every_comparison_and_each_subset_over_seeds_are_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    runs = [measured(f"seed{i}", ABLATE, scored(seed=i)) for i in range(2)]
    rivals = [measured(name, clips=scored(seed=i)) for i, name in ((5, "old"), (6, "older"))]
    comparisons = [
        (rival, *compare(scored(seed=i), scored(seed=0), MOSI, QUICK))
        for i, rival in ((5, rivals[0]), (6, rivals[1]))
    ]
    subsets = ablation_over_seeds(runs)
    print_evaluation(runs, over_seeds(runs), comparisons, subsets)
    lines = capsys.readouterr().out.splitlines()
    for name in ("old", "older"):
        assert f"{name} (regression), split test: 12 clips" in lines
        words = f"difference to {name} (regression), split test, on 12 clips"
        assert any(line.startswith(words) for line in lines)
    start = lines.index("ablation over 2 seeds (mean ± sample deviation)")
    mean, deviation = subsets["T"]["mae"]
    assert lines[start + 2].startswith("T ") and f"{mean:.3f} ±{deviation:.3f}" in lines[start + 2]

    told = evaluation_document(runs, over_seeds(runs), comparisons, subsets)
    assert [row["against"]["system"] for row in told["comparisons"]] == [r.system for r in rivals]
    assert {name: told[name] for name in ("against", "difference")} == told["comparisons"][0]
    assert told["ablation_over_seeds"]["T"]["mae"]["mean"] == round(mean, 6)
