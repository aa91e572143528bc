"""The published schema of a record: what it says is so, for rows that failed too."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.resources import files
from typing import Any

import pytest
from conftest import make_content

from omni_msa.errors import ERROR_CODES
from omni_msa.files.columns import flatten, plain, unflatten
from omni_msa.files.record import Answer, Record
from omni_msa.options import AblationOptions
from omni_msa.values import Clip

SCHEMA = json.loads((files("omni_msa.files") / "record.schema.json").read_text(encoding="utf-8"))
KINDS = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int,
         "boolean": bool, "null": type(None)}  # fmt: skip


def problems(value: Any, schema: dict[str, Any], where: str = "record") -> list[str]:
    """What does not fit, by the keywords that our schema uses."""
    kinds = schema.get("type", list(KINDS))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    is_bool = isinstance(value, bool)
    if not any(isinstance(value, KINDS[k]) and (k == "boolean") == is_bool for k in kinds):
        return [f"{where} is {value!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} is {value!r}"]
    errors = []
    if isinstance(value, list):
        errors += [e for i in value for e in problems(i, schema.get("items", {}), f"{where}[]")]
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**6):
            errors.append(f"{where} has {len(value)} items")
    if isinstance(value, dict):
        errors += [f"{where} lacks {key}" for key in schema.get("required", []) if key not in value]
        others = schema.get("additionalProperties", True)
        for key, item in value.items():
            part = schema.get("properties", {}).get(key, others)
            if part is False:
                errors.append(f"{where} has {key}")
            elif part is not True:
                errors += problems(item, part, f"{where}.{key}")
    return errors


def rows(scorer) -> list[dict]:
    def record(ablation, **changes):
        prepared = scorer.prepare(make_content(**changes))
        return scorer.score_prepared([prepared], ablation)[0]

    records = [
        record(AblationOptions()),
        record(AblationOptions(drop={"text", "audio"})),
        record(AblationOptions(enabled=False), seconds=None),
        *scorer.score_many([Clip("no.mp4"), Clip(transcript="", label=1.5, row_id="7")]),
        Record("c", None, 1.0, answer=Answer("+1", 1.0, True, True), emotion="joy",
               model={"base": "b", "checkpoint": None, "readout": "generative",
                      "quantize": "none", "fingerprint": "f"}),
    ]  # fmt: skip
    return [json.loads(json.dumps(plain(record.to_json()))) for record in records]


def test_every_record_fits_the_schema_and_has_every_key(scorer):
    for row in rows(scorer):
        assert problems(row, SCHEMA) == []
        assert list(row) == SCHEMA["required"]
        assert Record.from_json(row).to_json() == row


def test_a_record_from_a_table_fits_the_schema_too(scorer):
    older = ("base", "readout", "quantize", "error_code")
    for row in rows(scorer):
        flat = flatten(row)
        record = unflatten(flat)
        assert problems(record.to_json(), SCHEMA) == []
        assert record.model == row["model"]
        record = unflatten(flat | dict.fromkeys(older))
        assert problems(record.to_json(), SCHEMA) == []
        assert record.model["quantize"] == "unknown"
    bare = {"type": "TranscriptError", "message": "no text"}
    record = Record.from_json(row | {"error": bare})
    assert record.error == bare | {"code": "transcript"}
    assert unflatten(flat | {"error_type": "OSError"}).error["code"] == "bug"


def test_the_schema_names_every_field_and_every_code():
    assert {f.name for f in fields(Record)} == set(SCHEMA["properties"])
    assert SCHEMA["properties"]["error"]["properties"]["code"]["enum"] == list(ERROR_CODES)
    assert SCHEMA["$id"] == "urn:omni-msa:record:1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": "2"}, "record.score is '2'"),
        ({"range": [1.0]}, "record.range has 1 items"),
        ({"error": {"type": "X", "code": "odd", "message": ""}}, "record.error.code is 'odd'"),
    ],
)
def test_what_does_not_fit_is_seen(scorer, change, words):
    row = Record("c", None, None, model=dict.fromkeys(
        ("base", "checkpoint", "readout", "quantize", "fingerprint"), "x")).to_json()  # fmt: skip
    assert problems(row, SCHEMA) == [] and problems(row | change, SCHEMA) == [words]
    del row["label"]
    assert problems(row, SCHEMA) == ["record lacks label"]
