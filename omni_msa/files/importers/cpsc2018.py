"""CPSC2018: 12-lead records of the China Physiological Signal Challenge 2018, 6 s and longer.

As the challenge gives them: `A0001.mat` (a struct `ECG`) in `TrainingSet1` to `3` or anywhere
below, and `REFERENCE.csv` (Recording, First_label, Second_label, Third_label) with numbers of
`NUMBERS`. As PhysioNet's Challenge 2020 gives the same records: `A0001.hea` beside `A0001.mat`, and
in the header `#Dx:` with SNOMED CT codes.

The test set was never published, and no patient is named: the split is ours, by a hash of the
record's name, so that it is the same wherever only a part of the records is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from omni_msa.errors import ManifestError
from omni_msa.files.importers.release import Dataset, DatasetFacts, Release, Sample, layout_error
from omni_msa.files.importers.tables import (
    Table,
    TableRow,
    read_table,
    read_text_file,
    require_no_problems,
)
from omni_msa.files.manifest import list_problems
from omni_msa.files.splits import PARTS, SHARES

REFERENCE = "REFERENCE.csv"
LABELS = ("First_label", "Second_label", "Third_label")
FINDINGS = ("Normal", "AF", "I-AVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE")
NUMBERS = {str(number): name for number, name in enumerate(FINDINGS, start=1)}
SNOMED = {
    "426783006": "Normal",
    "164889003": "AF",
    "270492004": "I-AVB",
    "164909002": "LBBB",
    "59118001": "RBBB",
    "284470004": "PAC",
    "164884008": "PVC",
    "429622005": "STD",
    "164931005": "STE",
}
_NAME = re.compile(r"A\d{4}")  # PhysioNet's sets of other sources have other letters
_DIAGNOSES = re.compile(r"^#\s*Dx:(.*)$", re.MULTILINE)


def read_cpsc2018(folder: Path, facts: DatasetFacts, variant: str | None = None) -> Release:
    """Read the records below a folder, labelled by its `REFERENCE.csv`, or by their headers.

    Raises:
        ManifestError: The layout is another one, or labels are bad; the message lists them.
    """
    files = _record_files(folder)
    references = sorted(folder.rglob(REFERENCE))
    headers = [path for path in files.values() if path.suffix == ".hea"]
    if references:
        findings = _from_tables(folder, [read_table(p, ("Recording", *LABELS)) for p in references])
    elif headers:
        findings = _from_headers(folder, headers)
    else:
        parts = {REFERENCE: False, "A0001.mat": bool(files), "A0001.hea": False}
        raise layout_error(folder, facts, parts)
    samples = [
        Sample(
            name=name,
            path=files.get(name, folder / f"{name}.mat"),
            split=split_of(name),
            findings=tuple(finding for finding in facts.findings if finding in present),
        )
        for name, present in findings.items()
    ]
    num_without = len(files.keys() - findings)
    notice = f"{num_without} records have no labels, and are left out"
    return Release(tuple(samples), (notice,) if num_without else ())


def split_of(name: str) -> str:
    """The part of a record: by the first 32 bits of the SHA-256 of its name, as a share of all."""
    place = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8
    bounds = accumulate(SHARES)
    return next((part for part, end in zip(PARTS, bounds, strict=True) if place < end), PARTS[-1])


def _record_files(folder: Path) -> dict[str, Path]:
    """The file of each record below a folder; a header goes before the .mat file beside it."""
    paths = [*sorted(folder.rglob("A*.mat")), *sorted(folder.rglob("A*.hea"))]
    return {path.stem: path for path in paths if _NAME.fullmatch(path.stem)}


def _from_tables(folder: Path, tables: list[Table]) -> dict[str, set[str]]:
    """What each record shows; one that is listed again, in another folder's table, counts once."""
    findings: dict[str, set[str]] = {}
    for row in (row for table in tables for row in table.rows):
        name = row.required("Recording")
        if name and not _NAME.fullmatch(name):
            row.problem("Recording", f"{name[:40]!r} is no record's name, such as A0001")
        row.required(LABELS[0])
        present = _meanings(row, [(label, row.text(label)) for label in LABELS], NUMBERS)
        if findings.setdefault(name, present) != present:
            row.problem("Recording", f"{name} has other labels in a row before")
    require_no_problems(folder, tables)
    return findings


def _from_headers(folder: Path, headers: Iterable[Path]) -> dict[str, set[str]]:
    problems: list[str] = []
    findings = {}
    for path in headers:
        match = _DIAGNOSES.search(read_text_file(path, fallback="latin-1").text)
        row = TableRow(path.name, {"#Dx": match[1] if match else ""}, problems)
        codes = row.required("#Dx").split(",")
        findings[path.stem] = _meanings(row, [("#Dx", code.strip()) for code in codes], SNOMED)
    if problems:
        raise ManifestError(list_problems(folder, problems, "nothing was imported"))
    return findings


def _meanings(
    row: TableRow, cells: Sequence[tuple[str, str]], names: Mapping[str, str]
) -> set[str]:
    """What the cells, each with its column, mean; an empty one means nothing."""
    for column, text in cells:
        if text and text not in names:
            row.problem(column, f"{text[:40]!r} is not one of {', '.join(names)}")
    return {names[text] for _, text in cells if text in names}


CPSC2018 = Dataset(
    DatasetFacts(
        name="cpsc2018",
        title="CPSC2018",
        label_range=(0.0, 8.0),
        family="findings",
        findings=FINDINGS,
        remarks=(
            "CPSC2018 names no patients and its test set is not published; the split is ours, by a "
            "hash of the record's name (70 % train, 10 % valid, 20 % test), and a patient with "
            "several records may be in several parts",
        ),
    ),
    read_cpsc2018,
)
