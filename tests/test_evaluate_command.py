"""The command `evaluate` with several systems: all of them are compared, written and tabulated."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from study_files import document, train

from omni_msa.__main__ import main
from omni_msa.files.result_formats import read_records

pytestmark = pytest.mark.slow
QUICK = ["--resamples", "10"]


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_all_systems_are_compared_with_the_first(manifest, base_folder, trained, tmp_path, capsys):
    seed, deaf, blind = (tmp_path / name for name in ("seed", "deaf", "blind"))
    assert train(manifest, base_folder, seed, "--seed", "1") == 0
    assert train(manifest, base_folder, deaf, "--drop", "audio") == 0
    assert train(manifest, base_folder, blind, "--drop", "video") == 0
    told = document(
        capsys, "evaluate", str(manifest), "--checkpoint", str(trained), "--also", str(seed),
        "--against", str(deaf), "--against", str(blind), "--ablate", *QUICK,
        "--table", str(tmp_path / "all.csv"), "-o", str(tmp_path / "rows.csv"),
    )  # fmt: skip
    first = told["runs"][0]["metrics"]["mae"]
    rivals = [row["against"] for row in told["comparisons"]]
    assert [r["protocol"].split("never with ")[-1] for r in rivals] == [
        "audio; modalities are left out when scoring",
        "video; modalities are left out when scoring",
    ]
    for row in told["comparisons"]:
        change = first - row["against"]["metrics"]["mae"]
        assert row["difference"]["mae"]["value"] == pytest.approx(change, abs=1e-5)
    assert told["against"] == rivals[0] and told["difference"]["clips"] == 4
    of_text = [run["ablation"]["T"]["mae"] for run in told["runs"]]
    mean = told["ablation_over_seeds"]["T"]["mae"]["mean"]
    assert mean == pytest.approx(sum(of_text) / 2, abs=1e-5)

    table = rows_of(tmp_path / "all.csv")
    whole = [(r["checkpoint"], r["role"]) for r in table if r["shown"] == "all"]
    folders = zip(
        (trained, seed, deaf, blind), ("system", "seed", "against", "against"), strict=True
    )
    assert whole == [(str(folder), role) for folder, role in folders]
    assert len(table) == 4 + 7 + 7 + 3 + 3
    for number in ("", "-2", "-3", "-4"):
        assert len(read_records(tmp_path / f"rows{number}.csv")) == 4


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_of_every_format_are_gone_on_from(manifest, trained, tmp_path, capsys, suffix):
    asked = ["evaluate", str(manifest), "--checkpoint", str(trained), "--ablate", *QUICK]
    output = ["-o", str(tmp_path / f"rows{suffix}")]
    first, again = (document(capsys, *asked, *output) for _ in range(2))
    assert first["runs"] == again["runs"] == document(capsys, *asked)["runs"]


def test_clips_that_were_trained_on_are_counted(manifest, trained, tmp_path, capsys):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    mixed = manifest.parent / "mixed.jsonl"  # every clip is called a test clip
    mixed.write_text("".join(json.dumps(row | {"split": "test"}) + "\n" for row in rows))
    [run] = document(capsys, "evaluate", str(mixed), "--checkpoint", str(trained), *QUICK)["runs"]
    assert run["overlap_with_training"] == {"train": 8, "valid": 2, "same_file": 0}
    told = "8 of 14 clips were trained on, 2 validated on: the figures flatter it"
    assert told in run["notices"]
    [run] = document(capsys, "evaluate", str(manifest), "--checkpoint", str(trained), *QUICK)[
        "runs"
    ]
    assert run["overlap_with_training"] == {"train": 0, "valid": 0, "same_file": 0}
    assert not any("flatter" in notice for notice in run["notices"])

    old = tmp_path / "old"
    shutil.copytree(trained, old)
    info = json.loads((old / "omni_msa.json").read_text())
    del info["training"]["clips_sha256"]
    (old / "omni_msa.json").write_text(json.dumps(info))
    asked = ["evaluate", str(manifest), "--checkpoint", str(old), "--split", "valid", *QUICK]
    [run] = document(capsys, *asked)["runs"]
    assert any(notice.startswith("split valid: if the") for notice in run["notices"])


def test_a_probe_counts_its_own_clips_and_its_adapters(manifest, trained, tmp_path, capsys):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    fitted = manifest.parent / "fitted.jsonl"  # the clips that the adapter was not trained on
    fitted.write_text(
        "".join(
            json.dumps(row | {"split": "train" if row["split"] != "train" else "test"}) + "\n"
            for row in (*rows[2:], rows[8] | {"text": "good"}, rows[9] | {"text": "evil"})
        )
    )
    probe = tmp_path / "probe"
    base = json.loads((trained / "omni_msa.json").read_text())["base"]
    arguments = ["-o", str(probe), "--model", base, "--checkpoint", str(trained), "-q"]
    assert main(["calibrate", str(fitted), *arguments]) == 0
    asked = ["evaluate", str(fitted), "--checkpoint", str(probe), *QUICK]
    [run] = document(capsys, *asked)["runs"]
    assert run["overlap_with_training"] == {"train": 6, "valid": 0, "same_file": 0}


def test_a_users_own_columns_and_a_cache(manifest, trained, tmp_path, capsys):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    own = manifest.parent / "own.jsonl"
    own.write_text(
        "".join(
            json.dumps(
                {("rating" if k == "label" else k): v for k, v in row.items()} | {"label": 0}
            )
            + "\n"
            for row in rows
        )
    )
    asked = ["evaluate", str(own), "--checkpoint", str(trained), "--label-column", "rating", *QUICK]
    plain = document(capsys, "evaluate", str(manifest), "--checkpoint", str(trained), *QUICK)
    cache = ["--cache", str(tmp_path / "cache")]
    assert document(capsys, *asked, *cache) == plain
    files = list((tmp_path / "cache").glob("*/*.npz"))
    assert len(files) == 4
    before = {path: path.stat().st_mtime_ns for path in files}
    assert document(capsys, *asked, *cache) == plain  # read from there
    assert all(path.stat().st_mtime_ns > before[path] for path in files)
    assert main([*asked, *cache, "--cache-gb", "0"]) == 2
    assert "--cache-gb" in capsys.readouterr().err


def test_speakers_in_two_splits_are_said(manifest, trained, capsys):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    leaky = manifest.parent / "leaky.jsonl"
    leaky.write_text("".join(json.dumps(row | {"speaker": "Ann"}) + "\n" for row in rows))
    assert main(["evaluate", str(leaky), "--checkpoint", str(trained), *QUICK]) == 0
    assert "1 of 1 speakers are in more than one split, such as Ann" in capsys.readouterr().err


def test_what_leaks_and_what_intervals_rest_on_is_in_the_document(
    manifest, trained, capsys, tmp_path
):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    again = [row | {"split": "test"} for row in rows if row["split"] == "train"]
    mixed = manifest.parent / "again.jsonl"
    mixed.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *again]))
    asked = ["evaluate", str(mixed), "--checkpoint", str(trained), *QUICK]
    told = document(capsys, *asked, "--table", str(tmp_path / "all.csv"))
    assert [line[:34] for line in told["leaks"]] == ["8 clips are in more than one split"]
    run = told["runs"][0]
    assert run["metrics"]["intervals_over"] == {"unit": "videos", "number": 12}
    assert rows_of(tmp_path / "all.csv")[0]["intervals_over"] == "12 videos"
    told = document(capsys, "evaluate", str(manifest), "--checkpoint", str(trained), *QUICK)
    assert "leaks" not in told
    assert told["runs"][0]["metrics"]["intervals_over"] == {"unit": "clips", "number": 4}
    assert not any("too few" in n for n in told["runs"][0]["notices"])  # one clip a video
    assert main([*asked, "--intervals-over", "speakers"]) == 2
    assert "no speaker is named of the 12 clips" in capsys.readouterr().err


def test_outputs_are_checked_before_anything_is_scored(manifest, trained, tmp_path, capsys):
    asked = ["evaluate", str(manifest), "--checkpoint", str(trained), *QUICK]
    assert main([*asked, "-o", "-"]) == 2
    assert "-o -: evaluate writes its figures to stdout" in capsys.readouterr().err
    (tmp_path / "rows-2.csv").mkdir()
    assert main([*asked, "--against", str(trained), "-o", str(tmp_path / "rows.csv")]) == 2
    assert "rows-2.csv: is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("rows*")] == ["rows-2.csv"]
    numbered = manifest.with_name(f"{manifest.stem}-2.jsonl")
    numbered.write_bytes(manifest.read_bytes())
    asked[1] = str(numbered)
    assert main([*asked, "--against", str(trained), "-o", str(manifest)]) == 2
    assert "is an input, which would be replaced" in capsys.readouterr().err
    table = manifest.with_name("m.csv")
    table.write_text("text,label\ngood,1\nbad,-1\n")
    asked[1] = str(table)
    assert main([*asked, "--table", str(table)]) == 2
    assert "is an input, which would be replaced" in capsys.readouterr().err
