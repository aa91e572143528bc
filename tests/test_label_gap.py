"""The label gap of near states: right neighbours, permuted labels beside, a picture of both."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from study_files import document

from omni_msa.__main__ import main
from omni_msa.display.gaps import gap_figure
from omni_msa.display.tables import print_evaluation
from omni_msa.errors import ConfigError
from omni_msa.evaluation.evaluate import ScoredClip, evaluate
from omni_msa.evaluation.label_gap import check_enough, label_gap, nearest_states
from omni_msa.evaluation.metrics import FAMILIES
from omni_msa.options import EvaluateOptions


def ordered(number: int = 200, noise: float = 0.3, seed: int = 0):
    """States [N, 16] that vary along their labels [N], of -3 to 3."""
    draw = np.random.default_rng(seed)
    labels = draw.uniform(-3, 3, number)
    states = labels[:, None] * draw.normal(0, 1, 16) + draw.normal(0, noise, (number, 16))
    return states, labels


@pytest.mark.parametrize("number", [30, 700])  # less and more than are compared at a time
def test_neighbours_equal_sklearns(number):
    states, _ = ordered(number)
    states = states + 50
    theirs = NearestNeighbors(n_neighbors=8).fit(states).kneighbors(return_distance=False)
    assert np.array_equal(nearest_states(states, 8), theirs)


def test_the_gap_is_that_of_its_definition():
    states, labels = ordered(60)
    found = label_gap(states, labels, seed=4)
    assert [gaps.k for gaps in found.gaps] == [5, 10, 20] and found.num_clips == 60
    for gaps in found.gaps:
        theirs = NearestNeighbors(n_neighbors=gaps.k).fit(states).kneighbors(return_distance=False)
        expected = [np.abs(labels[row] - labels[i]).mean() for i, row in enumerate(theirs)]
        assert gaps.by_state == pytest.approx(expected)
        assert gaps.permuted.shape == (100, 60)
    assert label_gap(states, labels, seed=4).to_json() == found.to_json()
    assert label_gap(states, labels, seed=5).to_json() != found.to_json()


def test_states_that_know_the_label_are_far_below_permuted_labels():
    for gaps in label_gap(*ordered()).gaps:
        assert gaps.gap < 0.6 < 1.9 < gaps.permuted_gap < 2.1  # uniform on -3 to 3: 2 on average
        assert gaps.ratio == pytest.approx(gaps.gap / gaps.permuted_gap)
    states, labels = ordered()
    noise = np.random.default_rng(1).normal(0, 1, states.shape)
    for gaps in label_gap(noise, labels).gaps:
        assert gaps.ratio == pytest.approx(1.0, abs=0.1)


def test_of_classes_the_gap_is_the_share_of_others():
    states, labels = ordered(90)
    classes = np.digitize(labels, [-1.0, 1.0]) * 2.0
    found = label_gap(states, classes, is_class=True)
    assert all(0 <= gaps.by_state.min() <= gaps.by_state.max() <= 1 for gaps in found.gaps)
    assert all(gaps.ratio < 0.5 for gaps in found.gaps)


def test_the_edges():
    states, labels = ordered(12)
    assert [gaps.k for gaps in label_gap(states, labels).gaps] == [5, 10]
    assert label_gap(states[:5], labels[:5]).to_json()["neighbours"] == []
    same = label_gap(states, np.ones(12)).to_json()["neighbours"]
    assert [row["ratio"] for row in same] == [None, None]
    check_enough(6)
    with pytest.raises(ConfigError, match="its 5 nearest and needs 6 clips or more, got 5"):
        check_enough(5)


def evaluation(number: int = 30, name: str = "new"):
    states, labels = ordered(number)
    clips = [ScoredClip(str(i), float(label), float(label)) for i, label in enumerate(labels)]
    options = EvaluateOptions(resamples=5)
    found = evaluate(name, clips, FAMILIES["mosi"], (0.0, "always 0"), options)
    return replace(found, label_gap=label_gap(states, labels), checkpoint=name)


def test_it_is_printed_and_written(capsys):
    found = evaluation()
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))["label_gap"]
    assert (told["clips"], told["distance"], told["permutations"]) == (30, "euclidean", 100)
    first = told["neighbours"][0]
    assert list(first) == ["k", "gap", "permuted", "permuted_deviation", "ratio"]
    print_evaluation([found], {}, [])
    words = f"clips: k 5 {first['gap']:.3f} (permuted labels {first['permuted']:.3f}), k 10"
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_row_a_system_and_a_panel_a_k():
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    systems = [evaluation(30, "a$b"), evaluation(12)]
    figure = gap_figure(systems)
    figure.draw_without_rendering()
    panels = np.array(figure.axes).reshape(2, 3)
    assert panels[0, 0].get_ylabel() == r"a\$b"
    gaps = systems[0].label_gap.gaps[0]
    assert panels[0, 0].get_title() == f"k = 5: {gaps.gap:.3f} and {gaps.permuted_gap:.3f}"
    means = [line.get_xdata()[0] for line in panels[0, 0].lines]
    assert means == pytest.approx([gaps.gap, gaps.permuted_gap])
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["neighbours by state", "permuted labels"]


def test_what_cannot_be_diagnosed_is_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "m.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"w {k}", "label": k % 3}) + "\n" for k in range(5))
    )
    assert main(["evaluate", str(path), "--diagnose"]) == 2
    assert "needs 6 clips or more, got 5" in capsys.readouterr().err
    picture = ["--diagnose-plot", str(tmp_path / "gap.pdf")]
    assert main(["evaluate", str(path), *picture]) == 2
    assert "--diagnose-plot" in (told := capsys.readouterr().err) and ".svg, .png" in told
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["evaluate", str(path), "--diagnose-plot", str(tmp_path / "gap.svg")]) == 2
    assert 'pip install "omni-msa[plot]"' in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_reads_states_also_of_rows_of_an_earlier_run(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    words = ("so good", "I love it", "awful", "I hate it", "fine", "bad", "great film", "no")
    path = tmp_path / "m.jsonl"
    rows = [{"text": text, "label": (-1) ** (k // 2) * 2.0} for k, text in enumerate(words)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["evaluate", str(path), "--resamples", "5", "-o", str(tmp_path / "rows.jsonl")]
    document(capsys, *asked)
    picture = tmp_path / "gap.svg"
    told = document(capsys, *asked, "--diagnose-plot", str(picture))["runs"][0]["label_gap"]
    assert told["clips"] == 8 and [row["k"] for row in told["neighbours"]] == [5]
    assert picture.read_text().startswith("<?xml")
    again = document(capsys, "evaluate", str(path), "--resamples", "5", "--diagnose")
    assert again["runs"][0]["label_gap"]["neighbours"][0]["gap"] == pytest.approx(
        told["neighbours"][0]["gap"]
    )
