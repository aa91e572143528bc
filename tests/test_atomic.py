"""A file is replaced whole or stays as it was."""

from __future__ import annotations

import pytest

from omni_msa.files.atomic import replacing


def test_the_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path, ".partial") as temporary:
        temporary.write_text("new")
        assert temporary == tmp_path / "a.txt.partial"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_anything_was_written_is_not_hidden(tmp_path):
    path = tmp_path / "missing" / "a.txt"
    with pytest.raises(FileNotFoundError, match="missing"), replacing(path) as temporary:
        temporary.write_text("new")
