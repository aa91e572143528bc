"""Text that others wrote: read within stated limits, parsed, and shown without taking effect.

File names, transcripts, manifests and the JSON of checkpoints come from anywhere. Every module that
reads such a file, parses such JSON or shows such a text does it through here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from omni_msa.errors import OmniMSAError

MAX_TEXT_BYTES = 2_000_000  # of a transcript: a long book
MAX_TABLE_BYTES = 100_000_000  # of a manifest, a table of labels, a list on stdin
MAX_JSON_BYTES = 10_000_000  # of a JSON file
MAX_ROW_BYTES = 1_000_000  # of one line of JSONL
MAX_ROWS = 500_000  # of a manifest or a table
MAX_COLUMNS = 1_000

# What a terminal obeys (C0, C1, delete), what turns the direction of writing or ends a line, and
# halves of characters, which no encoding can write.
_CONTROLS = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
)
_UNPRINTABLE = re.compile(f"[{_CONTROLS}]")
_OWN_BREAK = re.compile(r"\n(?=  )")  # before the indented lines of a list of problems


def printable(text: str) -> str:
    """The text on one line, with what a terminal would obey shown as an escape: `\\x1b[31m`."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_message(error: object) -> str:
    """A message of ours, whose lists of problems go on in lines that are indented."""
    return "\n".join(map(printable, _OWN_BREAK.split(str(error))))


def printable_json(document: str) -> str:
    """JSON of the same meaning, with what a terminal would obey as JSON's own escapes."""
    return _UNPRINTABLE.sub(
        lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", document
    )


def read_limited(path: Path, max_bytes: int, error: type[OmniMSAError]) -> bytes:
    """All of a file that is not larger than it may be; of a larger one, nothing is kept.

    Raises:
        OmniMSAError: of this class: it is larger.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        # the size is only a claim: that of a pipe or of a device is 0
        is_larger = path.stat().st_size > max_bytes
        data = b"" if is_larger else file.read(max_bytes + 1)
    if is_larger or len(data) > max_bytes:
        raise error(f"{path}: larger than {max_bytes // 10**6} MB, the most that is read")
    return data


def parse_json(text: str | bytes, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, is nested too deeply, or is longer than it may be.
    """
    if len(text) > max_bytes:
        raise ValueError(f"longer than {max_bytes // 10**6} MB")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path, error: type[OmniMSAError]) -> Any:
    """What a JSON file in UTF-8 says.

    Raises:
        OmniMSAError: of this class: it is too large.
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    return parse_json(read_limited(path, MAX_JSON_BYTES, error))
