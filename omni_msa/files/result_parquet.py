"""Results files in Parquet: the same flat columns as CSV (`columns.columns`), written at once."""

from __future__ import annotations

from pathlib import Path

from omni_msa.errors import ResultsError
from omni_msa.files.atomic import replacing
from omni_msa.files.columns import Row, columns, empty_row, holds_results


def read_parquet(path: Path) -> list[Row]:
    """The rows of a Parquet file.

    Raises:
        ResultsError: It is not Parquet, or has other columns. Those that an older version did not
            know are None.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, partitioning=None)  # `a=b/` in a path is no column
    except pa.ArrowInvalid as error:
        raise ResultsError(
            f"{path}: is no Parquet file; choose another -o, or replace it with --fresh"
        ) from error
    if not holds_results(table.column_names):
        raise ResultsError(
            f"{path}: has other columns than a results file; choose another -o, or replace it "
            "with --fresh"
        )
    return [empty_row() | row for row in table.to_pylist()]


def write_parquet(path: Path, rows: list[Row]) -> None:
    """Replace a Parquet file, in one step, by these rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns().items()])
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
