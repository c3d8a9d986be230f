"""Texts that are larger than any of their kind are refused before they are parsed."""

from __future__ import annotations

from pathlib import Path

import pytest

import dd
from dd.base import paths
from dd.base.files import append_jsonl, read_foreign_json, read_jsonl
from dd.experts import load_recipe


def test_a_text_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"[1]")
    assert paths.read_bytes(path, 3) == b"[1]"
    with pytest.raises(dd.DamagedError, match="has more than the 2 bytes"):
        paths.read_bytes(path, 2)


def test_json_and_toml_have_bounds(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + b" " * paths.MOST_TEXT + b"]")
    with pytest.raises(dd.DamagedError, match="more than the 33,554,432 bytes"):
        read_foreign_json(path)
    recipe = tmp_path / "x.toml"
    recipe.write_bytes(b"#" * (paths.MOST_TOML + 1))
    with pytest.raises(dd.DamagedError, match="more than the 1,048,576 bytes"):
        load_recipe(str(recipe))


def test_a_key_of_many_parts_is_not_parsed(tmp_path: Path) -> None:
    recipe = tmp_path / "x.toml"
    recipe.write_bytes(b"a" + b".a" * 50_000 + b" = 1\n")
    with pytest.raises(dd.DamagedError, match="nested too deep"):
        load_recipe(str(recipe))


def test_a_line_longer_than_any_row_ends_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_jsonl(path, [{"a": 1}])
    with path.open("ab") as file:
        file.write(b'{"a": [' + b"[]," * 2**21 + b"[]]}\n")
    assert read_jsonl(path) == [{"a": 1}]
