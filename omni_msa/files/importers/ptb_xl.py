"""PTB-XL: 12-lead records of ten seconds, from its release of PhysioNet (versions 1.0.x).

`ptbxl_database.csv` has a row a record, whose `filename_lr` and `filename_hr` name it at 100 and at
500 Hz; `scp_statements.csv` says which statements are diagnostic, and of which superclass. What a
record shows is aggregated as the release's own example (`example_physionet.py`) does it: the
superclass of every diagnostic statement in `scp_codes`, whatever its likelihood.

The cardiologist's report is not imported: it says the diagnosis in words.
"""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath
from typing import Any

from omni_msa.files.importers.release import Dataset, DatasetFacts, Release, Sample, layout_error
from omni_msa.files.importers.tables import Table, TableRow, read_table, require_no_problems

RECORDS, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
COLUMNS = ("ecg_id", "patient_id", "scp_codes", "strat_fold")
FULL_RATE = "500hz"
FILE_COLUMNS = {None: "filename_lr", FULL_RATE: "filename_hr"}
SPLIT_OF_FOLD = {str(n): "train" for n in range(1, 9)} | {"9": "valid", "10": "test"}
MAX_CELL = 2_000  # characters of `scp_codes`: a record has a dozen statements at most


def read_ptb_xl(folder: Path, facts: DatasetFacts, variant: str | None = None) -> Release:
    """Read PTB-XL; records without a diagnostic statement are left out, and counted.

    Raises:
        ManifestError: The layout is another one, or rows are bad; the message lists them.
    """
    parts = {name: (folder / name).is_file() for name in (RECORDS, STATEMENTS)}
    if not all(parts.values()):
        raise layout_error(folder, facts, parts)
    file_column = FILE_COLUMNS[variant]
    statements = read_table(folder / STATEMENTS, ("diagnostic", "diagnostic_class"))
    records = read_table(folder / RECORDS, (*COLUMNS, file_column))
    classes = _superclasses(statements, facts)
    samples = [_sample(row, file_column, folder, classes, facts) for row in records.rows]
    require_no_problems(folder, [statements, records])
    with_findings = [sample for sample in samples if sample is not None and sample.findings]
    num_without = len(samples) - len(with_findings)
    notice = f"{num_without} records without a diagnostic superclass are left out"
    return Release(tuple(with_findings), (notice,) if num_without else ())


def _superclasses(table: Table, facts: DatasetFacts) -> dict[str, str | None]:
    """The superclass of each statement; None of those of form and rhythm alone."""
    names = {name.lower(): name for name in facts.findings}
    classes: dict[str, str | None] = {}
    for row in table.rows:
        code = next(iter(row.cells.values())).strip()  # its column has no name
        is_diagnostic = row.text("diagnostic") and row.number("diagnostic", (0, 1)) == 1
        classes[code] = row.choice("diagnostic_class", names) if is_diagnostic else None
    return classes


def _sample(
    row: TableRow,
    file_column: str,
    folder: Path,
    classes: dict[str, str | None],
    facts: DatasetFacts,
) -> Sample | None:
    name, patient = row.required("ecg_id"), row.required("patient_id").removesuffix(".0")
    split, file = row.choice("strat_fold", SPLIT_OF_FOLD), row.required(file_column)
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        row.problem(file_column, f"{file!r} is not in the release's folder")
    codes = _codes(row)
    if unknown_codes := [code for code in codes if code not in classes]:
        row.problem("scp_codes", f"{', '.join(unknown_codes)} not in {STATEMENTS}")
    if split is None:
        return None
    present = {classes.get(code) for code in codes}
    return Sample(
        name=name,
        path=folder / f"{file}.hea",
        split=split,
        findings=tuple(finding for finding in facts.findings if finding in present),
        speaker=patient,
    )


def _codes(row: TableRow) -> list[str]:
    """The statements of a cell such as `{'NORM': 100.0, 'SR': 0.0}`."""
    text = row.required("scp_codes")
    likelihoods = _literal(text) if len(text) <= MAX_CELL else None
    if isinstance(likelihoods, dict) and all(isinstance(code, str) for code in likelihoods):
        return list(likelihoods)
    if text:
        row.problem("scp_codes", f"{text[:40]!r} is not like {{'NORM': 100.0, 'SR': 0.0}}")
    return []


def _literal(text: str) -> Any:
    """A literal of Python, of which nothing is run; None where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


PTB_XL = Dataset(
    DatasetFacts(
        name="ptb-xl",
        title="PTB-XL",
        label_range=(0.0, 4.0),
        family="findings",
        # Of version 1.0.3 (21,799 records), as HeartLang's arrays of the five superclasses have it.
        split_sizes={"train": 17084, "valid": 2146, "test": 2158},
        findings=("NORM", "MI", "STTC", "CD", "HYP"),
        variants={FULL_RATE: "the records at 500 Hz in place of those at 100"},
        remarks=(
            "the splits are the release's folds, each patient in one: 1 to 8 train, 9 valid, "
            "10 test",
            "a finding is the superclass of any diagnostic statement, whatever its likelihood, as "
            "in the release's example_physionet.py",
        ),
    ),
    read_ptb_xl,
)
