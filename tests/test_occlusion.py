"""`--trace`: each stretch of a heart record is taken out once, and a picture shows what it did."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import MEDIA, make_content
from media_files import tone, write_media

from omni_msa.__main__ import main
from omni_msa.display.trace import describe, draw_trace, trace_figure
from omni_msa.errors import ConfigError, MediaError
from omni_msa.files.labels import LabelSpace
from omni_msa.methods import make_method
from omni_msa.model.identity import base_sha256
from omni_msa.model.loading import load_thinker
from omni_msa.options import AblationOptions, ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, save_checkpoint
from omni_msa.scoring.occlusion import Occlusion, occlude_content, windows_of
from omni_msa.scoring.scorer import Scorer
from omni_msa.scoring.states import StateCollector
from omni_msa.values import TRACE_RATE, Traces

SPACES = {
    "ecg-mamba": (LabelSpace.of_findings(("AF", "NO$RM", "PVC")), {"width": "16", "blocks": "1"}),
    "regression": (LabelSpace(-3.0, 3.0), {"ecg": "true"}),
}


@pytest.fixture(scope="module")
def folders(base_folder, tmp_path_factory) -> dict[str, Path]:
    """Checkpoints that look at hearts, with random weights."""
    made = {}
    for name, (space, options) in SPACES.items():
        torch.manual_seed(5)
        thinker = load_thinker(str(base_folder))
        method = make_method(name, thinker, space, options)
        if name == "regression":  # else the heart adds nothing yet
            torch.nn.init.normal_(method.heart.out.weight, std=0.3)
        values = {"base": str(base_folder), "base_sha256": base_sha256(base_folder)}
        info = CheckpointInfo(**values, method=name, label_space=space, media=MEDIA)
        made[name] = tmp_path_factory.mktemp("hearts") / name
        save_checkpoint(made[name], thinker, method, info)
    return made


@pytest.fixture(scope="module")
def scorers(folders, base_folder) -> dict[str, Scorer]:
    return {
        name: Scorer.load(ModelOptions(str(base_folder), str(folder)))
        for name, folder in folders.items()
    }


def heart(seconds, seed=0):
    """A record alone."""
    return make_content(None, None, None, seed=seed, ecg_seconds=seconds)


def of(effects, starts, width, **changes):
    """An occlusion of two leads, made by hand."""
    size = max(starts) + width
    leads = np.random.default_rng(1).normal(0, 0.3, (size, 2)).astype(np.float32)
    values = {
        "clip": "folder/heart.hea", "watched": "score", "value": 1.234, "hop": 25,
        "model": {"base": "tiny", "checkpoint": "runs/hearts", "readout": "ecg-mamba"},
        "traces": Traces(leads, ("I", "V1")),
    }  # fmt: skip
    arrays = {"starts": np.array(starts), "effects": np.array(effects)}
    return Occlusion(**{**values, **arrays, "width": width, **changes})


@pytest.mark.parametrize("size", [1, 30, 50, 51, 74, 75, 76, 110, 1000, 3001, 30_000])
def test_windows_cover_the_record_and_are_of_one_width(size):
    starts, width, hop = windows_of(size)
    covered = np.zeros(size, dtype=bool)
    for start in starts:
        covered[start : start + width] = True
        assert start >= 0 and start + width <= size
    assert covered.all() and starts == sorted(set(starts)) and len(starts) <= 121
    assert all(later - start <= hop for start, later in zip(starts, starts[1:], strict=False))
    if 50 <= size <= 3000:
        assert (width, hop) == (50, 25)


@pytest.mark.parametrize("name", SPACES)
def test_a_window_adds_the_value_less_the_value_without_it(scorers, name):
    """Whatever the batch; each is scored alone here."""
    scorer, content = scorers[name], make_content(seed=3, num_frames=2, ecg_seconds=1.1)
    traces = content.parts["ecg"]

    def value(values):
        parts = {**content.parts, "ecg": replace(traces, values=values)}
        prepared = scorer.prepare(replace(content, parts=parts))
        (record,) = scorer.score_prepared([prepared], AblationOptions(enabled=False))
        return record.findings[likeliest] if record.findings else record.score

    whole = scorer.score_prepared([scorer.prepare(content)], AblationOptions())[0]
    likeliest = whole.name
    expected = []
    for start in (0, 25, 50, 60):
        occluded = traces.values.copy()
        occluded[start : start + 50] = 0
        expected.append(value(traces.values) - value(occluded))
    assert max(map(abs, expected)) > 1e-3
    for batch_size in (1, 3, 64):
        occlusion = occlude_content(scorer, content, batch_size=batch_size)
        assert occlusion.starts.tolist() == [0, 25, 50, 60] and occlusion.width == 50
        assert occlusion.effects == pytest.approx(expected, abs=1e-4)
        assert occlusion.value == pytest.approx(value(traces.values), abs=1e-4)
        assert occlusion.watched == (f"probability of {likeliest}" if likeliest else "score")
        assert occlusion.traces is traces and occlusion.model == scorer.describe()


def test_the_one_beat_in_noise_is_what_mattered(scorers):
    content = heart(6.0)
    values = content.parts["ecg"].values
    values *= 0.02
    values[305:320] += 2.0
    occlusion = occlude_content(scorers["ecg-mamba"], content)
    holds = (occlusion.starts < 320) & (occlusion.starts + occlusion.width > 305)
    assert occlusion.starts[holds].tolist() == [275, 300]
    effects = np.abs(occlusion.effects)
    assert effects[holds].min() > 10 * effects[~holds].max()
    assert holds[occlusion.strongest(1)].all()


def test_a_record_shorter_than_a_window_is_one_window(scorers):
    occlusion = occlude_content(scorers["ecg-mamba"], heart(0.3))
    assert occlusion.starts.tolist() == [0] and occlusion.width == 30
    bounds, sizes = occlusion.sizes()
    assert bounds.tolist() == [0, 30] and sizes == pytest.approx(np.abs(occlusion.effects))
    assert occlusion.strongest(2) == [0]


def test_shades_are_the_mean_of_the_windows_that_hold_a_stretch():
    occlusion = of([0.4, -0.2, 0.1], [0, 25, 35], 50)
    bounds, sizes = occlusion.sizes()
    assert bounds.tolist() == [0, 25, 35, 50, 75, 85]
    assert sizes == pytest.approx([0.4, 0.3, 0.7 / 3, 0.15, 0.1])


def test_the_strongest_do_not_overlap():
    occlusion = of([0.1, 0.5, -0.4, 0.2, -0.3], [0, 25, 50, 75, 100], 50)
    assert occlusion.strongest(1) == [1] and occlusion.strongest(2) == [1, 4]
    assert describe(occlusion) == (
        "the score is 1.23; what mattered most: 0.25 to 0.75 s (adds +0.5), 1 to 1.5 s (adds -0.3)"
    )


def test_kept_states_are_those_of_the_whole_clip(scorers):
    scorer, content = scorers["regression"], make_content(num_frames=2, ecg_seconds=1.0)
    tables = []
    for occludes in (False, True):
        scorer.state_collector = collector = StateCollector()
        try:
            scorer.score_prepared([scorer.prepare(content)], AblationOptions(enabled=False))
            if occludes:
                occlude_content(scorer, content)
        finally:
            scorer.state_collector = None
        tables.append(collector.table([content.clip.name])[1])
    np.testing.assert_allclose(*tables, atol=1e-4)


def test_where_there_is_no_heart_it_is_one_line(scorers, scorer):
    with pytest.raises(MediaError, match=r"^clip0.mp4: no heart record was read; scored without e"):
        content = replace(make_content(), warnings=("no words", "scored without ecg: it is cut"))
        occlude_content(scorers["regression"], content)
    with pytest.raises(ConfigError, match="do not drop ecg"):
        occlude_content(scorers["regression"], heart(1.0), frozenset({"ecg"}))
    with pytest.raises(ConfigError, match=r"and .*checkpoint does not; give --checkpoint DIR"):
        occlude_content(scorer, make_content(ecg_seconds=1.0))


# --- the picture ---------------------------------------------------------------------------------


def needs_matplotlib():
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")


def test_a_panel_a_lead_shaded_from_light_to_dark():
    needs_matplotlib()
    occlusion = of([0.4, -0.2, 0.0], [0, 25, 50], 50)
    figure = trace_figure(occlusion)
    first, second, effects, bar = figure.axes
    assert [axis.get_ylabel() for axis in (first, second, effects)] == ["I", "V1", "adds"]
    assert first.get_ylim() == second.get_ylim() and first.get_xlim() == (0, 1)
    np.testing.assert_allclose(first.lines[0].get_ydata(), occlusion.traces.values[:, 0])
    assert effects.lines[1].get_xydata().tolist() == [[0.25, 0.4], [0.5, -0.2], [0.75, 0.0]]
    figure.draw_without_rendering()
    (mesh,) = second.collections
    greys = mesh.get_facecolor()[:, :3] @ [0.299, 0.587, 0.114]
    assert greys.tolist() == sorted(greys) and greys[0] < 0.7 < 0.95 < greys[-1]
    assert bar.get_ylabel() == "change of the score, up or down"


@pytest.mark.parametrize(
    "occlusion",
    [
        of([0.4, -0.2, 0.1], [0, 25, 50], 50, clip="a/<b>&$x_1$\x01 " + 90 * "w" + ".hea",
           watched="probability of $A$F"),
        of([0.0], [0], 30, model={"base": "big/base", "checkpoint": None, "readout": "r"}),
        of([0.0] * 2, [0, 25], 50, traces=Traces(np.zeros((75, 1), np.float32), ("II",))),
    ],
)  # fmt: skip
def test_the_svg_parses_and_its_text_is_text(tmp_path, occlusion):
    needs_matplotlib()
    path = tmp_path / "trace.svg"
    message = draw_trace(occlusion, path)
    tree = ElementTree.parse(path)
    texts = [element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    whole = " ".join(texts)
    name = (occlusion.model["checkpoint"] or occlusion.model["base"]).removeprefix("runs/")
    assert f"What mattered to the {occlusion.watched}" in whole and f"({name})" in whole
    assert {"mV", "adds", "seconds of the clip", *occlusion.traces.leads} <= {*texts}
    (title,) = tree.getroot().findall("{http://www.w3.org/2000/svg}title")
    assert title.text.startswith("What mattered to")
    descriptions = tree.iter("{http://purl.org/dc/elements/1.1/}description")
    assert [element.text for element in descriptions] == [message]


# --- the command ---------------------------------------------------------------------------------


def write_leads(path, seconds=4.0, seed=0):
    leads = np.random.default_rng(seed).normal(0, 0.5, (round(seconds * TRACE_RATE), 2))
    rows = (f"{i / TRACE_RATE:.2f},{a:.4f},{b:.4f}\n" for i, (a, b) in enumerate(leads))
    path.write_text("time,II,V1\n" + "".join(rows))
    return str(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A record; a clip with one beside it; a clip without; one that is no media."""
    folder = tmp_path_factory.mktemp("clips")
    write_leads(folder / "alone.ecg.csv")
    write_media(folder / "clip.mp4", 4, rate=2, size=(64, 48), sound=tone(2.0))
    write_leads(folder / "clip.ecg.csv", 2.0)
    write_media(folder / "without.mp4", 4, rate=2, size=(64, 48))
    (folder / "broken.mp4").write_bytes(b"no media")
    write_leads(folder / "broken.ecg.csv")
    write_media(folder / "torn.mp4", 4, rate=2, size=(64, 48))
    (folder / "torn.ecg.csv").write_text("time,II\n0,zero\n")
    return folder


def plain(document):
    """A record as printed, without what differs from run to run."""
    record = json.loads(document)
    del record["seconds"]
    return record


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "clip", "suffix", "start"),
    [
        ("ecg-mamba", "alone.ecg.csv", ".svg", b"<?xml"),
        ("regression", "clip.mp4", ".png", b"\x89PNG"),
    ],
)
def test_the_picture_comes_beside_the_same_record(
    folders, clips, tmp_path, capsys, method, clip, suffix, start
):
    needs_matplotlib()
    command = ["score", str(clips / clip), "--checkpoint", str(folders[method]), "--json"]
    assert main(command) == 0
    before = plain(capsys.readouterr().out)
    path = tmp_path / f"trace{suffix}"
    assert main([*command, "--trace", str(path)]) == 0
    out, err = capsys.readouterr()
    assert plain(out) == before
    (line,) = [line for line in err.splitlines() if str(path) in line]
    watched = "probability of" if method == "ecg-mamba" else "score"
    assert f"{path}: the {watched}" in line and line.count("(adds ") == 2
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alone.ecg.csv", "clip.mp4", "--trace", "t.svg"], "draws one clip, and here are 2; name"),
        (["without.mp4", "--trace", "t.svg"], "without.mp4 has none; give a record"),
        (["--transcript", "fine", "--trace", "t.svg"], "(text) has none; give a record"),
        (["alone.ecg.csv", "--trace", "t.pdf"], "--trace t.pdf: a picture ends in one of .svg, .p"),
        (["alone.ecg.csv", "--trace", "no/t.svg"], "name a file in a folder that exists"),
        (["clip.mp4", "--trace", "t.svg", "--drop", "ecg"], "do not drop ecg"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_the_model_is_loaded(
    folders, clips, capsys, monkeypatch, arguments, message
):
    needs_matplotlib()
    monkeypatch.chdir(clips)
    monkeypatch.setattr(Scorer, "load", lambda *_: pytest.fail("the model was loaded"))
    assert main(["score", *arguments, "--checkpoint", str(folders["regression"])]) == 2
    out, err = capsys.readouterr()
    assert message in err and len(err.splitlines()) == 1 and not out


def test_a_checkpoint_that_does_not_look_at_hearts_is_said_before_it_is_loaded(
    checkpoint_folder, clips, capsys, monkeypatch, tmp_path
):
    needs_matplotlib()
    monkeypatch.setattr(Scorer, "load", lambda *_: pytest.fail("the model was loaded"))
    command = ["score", str(clips / "clip.mp4"), "--checkpoint", str(checkpoint_folder)]
    assert main([*command, "--trace", str(tmp_path / "t.svg")]) == 2
    assert f"{checkpoint_folder} does not; give --checkpoint DIR" in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named(folders, clips, capsys, monkeypatch, tmp_path):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    command = ["score", str(clips / "clip.mp4"), "--checkpoint", str(folders["regression"])]
    assert main([*command, "--trace", str(tmp_path / "t.svg")]) == 2
    assert 'pip install "omni-msa[plot]"' in capsys.readouterr().err


@pytest.mark.slow
def test_a_clip_that_fails_has_no_picture(folders, clips, capsys, tmp_path):
    needs_matplotlib()
    path = tmp_path / "t.svg"
    for name, message in (
        ("broken.mp4", f"{path}: not drawn, the clip could not be scored"),
        ("none.mp4", f"{path}: not drawn, the clip could not be scored"),
        ("torn.mp4", "no heart record was read; scored without ecg: "),
    ):
        command = ["score", str(clips / name), "--checkpoint", str(folders["regression"])]
        assert main([*command, "--trace", str(path)]) == 3, name
        assert message in capsys.readouterr().err
        assert not path.exists()
