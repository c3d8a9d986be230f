"""Checksums over whole files: whatever is changed in one is refused, and a change by hand has a way in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dd.base import files
from dd.errors import DamagedError, DDError, InputError, MissingError

META: dict[str, Any] = {"kind": "toy", "mean": [0.5, 0.25], "names": ["één", "two"], "seed": 3}


def flips(whole: bytes) -> Any:
    """The bytes with one bit flipped, another one in each byte."""
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        yield bytes(data)


def tensors() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True, False]), "c": torch.ones(3).bfloat16()}


def test_no_flip_in_a_file_of_tensors_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    files.save_tensors(path, tensors(), META)
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for place, data in enumerate(flips(whole)):
        path.write_bytes(data)
        with pytest.raises(DDError):
            files.read_meta(path) if place < end else files.load_tensors(path)
    assert files.read_meta(path) == META  # the last flip is in the tensors, which are not read


def test_metadata_and_tensors_of_two_files_are_not_mixed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    files.save_tensors(one, tensors(), META)
    files.save_tensors(two, {**tensors(), "a": torch.zeros(2, 3)}, META)
    data = one.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    one.write_bytes(data[:start] + two.read_bytes()[start:])
    with pytest.raises(DamagedError, match=r"the tensors of .*one do not match their checksum.* Restore it, or remove"):
        files.load_tensors(one)
    reshaped = data.replace(b'"shape":[2,3]', b'"shape":[3,2]')
    assert reshaped != data
    one.write_bytes(reshaped)
    with pytest.raises(DamagedError, match=r"the metadata of .*one does not match its checksum"):
        files.read_meta(one)


def test_a_file_is_named_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.save_tensors(path, tensors(), META)
    named = files.file_digest(tensors(), META)
    assert files.load_tensors(path, sha256=named)[1] == META
    others = [files.file_digest(tensors(), {**META, "seed": 4}), files.file_digest({"a": torch.zeros(1)}, META)]
    assert len({named, *others}) == 3
    with pytest.raises(DamagedError, match="is not the file that was written with what names it"):
        files.load_tensors(path, sha256=others[0])


@pytest.mark.parametrize("value", [{"a": 1}, {"θ": [0.1, None, {"b": True}], "": "\ud83d\ude00"}, {10: 1, 9: (2, 3)}])
def test_json_round_trip_and_no_flip_is_believed(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "x.json"
    value = json.loads(json.dumps(value)) if "" in value else value
    files.write_json(path, value)
    written = files.read_json(path)
    assert written == json.loads(json.dumps(value))
    for data in flips(path.read_bytes()):
        path.write_bytes(data)
        try:
            assert files.read_json(path) == written  # such as another white space
        except DamagedError:
            continue


def test_json_changed_by_hand_is_refused_until_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"seconds": 3.5})
    told = path.read_text().replace("3.5", "4.5")
    path.write_text(told)
    with pytest.raises(DamagedError, match=r'x\.json does not match its checksum.*let it say `"sha256": "by hand"`'):
        files.read_json(path)
    seal = json.loads(told)["sha256"]
    path.write_text(told.replace(seal, "by hand"))
    assert files.read_json(path) == {"seconds": 4.5}
    path.write_text('{"seconds": 4.5}')
    with pytest.raises(DamagedError, match=r'no object with a key `sha256`.*add `"sha256": "by hand"` to it'):
        files.read_json(path)
    path.write_text('{"seconds": 4.5, "sha256": "by hand"}')
    assert files.read_json(path) == {"seconds": 4.5}
    assert files.read_foreign_json(path) == {"seconds": 4.5, "sha256": "by hand"}


@pytest.mark.parametrize(
    "text", ['{"a": NaN, "sha256": null}', '{"a": 1e999, "sha256": ""}', "[1]", "3", '{"a": "\\ud800", "sha256": "x"}']
)
def test_json_that_is_never_written_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DamagedError, match=r"x\.json"):
        files.read_json(path)
    (tmp_path / "log.jsonl").write_text(text + "\n")
    assert files.read_jsonl(tmp_path / "log.jsonl") == []


def test_json_nested_too_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" * 100_000)
    for read in (files.read_json, files.read_foreign_json):
        with pytest.raises(DamagedError, match="is not JSON"):
            read(path)
    with pytest.raises(MissingError):
        files.read_json(tmp_path / "y.json")


def test_the_key_of_the_checksum_is_the_files_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a key `sha256`"):
        files.write_json(tmp_path / "x.json", {"sha256": "mine"})


def test_no_flip_in_a_log_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"iteration": i, "loss": 0.5 + i} for i in range(4)]
    files.append_jsonl(path, rows)
    whole, last = path.read_bytes(), path.read_bytes().rindex(b"\n", 0, -1) + 1
    for place, data in enumerate(flips(whole)):
        path.write_bytes(data)
        if place < last - 1:
            with pytest.raises(DamagedError, match=r"line \d of .*log\.jsonl does not match.* or move it away"):
                files.read_jsonl(path)
        else:  # as a killed writer might have left it
            found = files.read_jsonl(path)
            assert found == rows[: len(found)]
            assert len(found) >= 2
    files.write_jsonl(path, rows)
    assert path.read_bytes() == whole
