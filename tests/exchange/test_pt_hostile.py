"""Foreign `.pt` files that are small on disk and large in memory, or no plain numbers."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base import bounds
from dd.exchange.pt import read_pt


def saved(path: Path, value: Any, **how: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, path, **how)
    return path


def odd_tensors() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "stride 0": torch.zeros(1).expand(10**6, 3, 32, 32),
            "overlapping": torch.zeros(100).as_strided((90, 11), (1, 1)),
            "sparse": torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (10**12,)),
            "csr": torch.zeros(2, 2).to_sparse_csr(),
            "meta": torch.zeros(10**6, 10**6, device="meta"),
            "quantised": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
            "complex": torch.zeros(2, dtype=torch.complex64),
            "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        }


@pytest.mark.parametrize("kind", sorted(odd_tensors()))
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_only_plain_dense_tensors_are_read(kind: str, mapped: bool, zipped: bool, tmp_path: Path) -> None:
    tensor = odd_tensors()[kind]
    try:
        path = saved(tmp_path / "x.pt", {"a": [(tensor,)]}, _use_new_zipfile_serialization=zipped)
    except Exception:
        pytest.skip("torch does not write it in this format")
    with pytest.raises(dd.DamagedError, match=r"plain dense tensors alone|must hold tensors and plain lists"):
        read_pt(path, mapped)


def test_views_within_their_numbers_are_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    value = {"slice": whole[1:], "turned": whole.transpose(0, 2), "none": torch.zeros(0, 5), "number": torch.tensor(3)}
    back = read_pt(saved(tmp_path / "x.pt", value))
    assert all(torch.equal(back[name], value[name]) for name in value)


def test_containers_that_share_their_parts_are_walked_once(tmp_path: Path) -> None:
    value: Any = [torch.zeros(1)]
    for _ in range(60):
        value = [value, value]
    read_pt(saved(tmp_path / "x.pt", value))


def test_an_archive_that_expands_is_refused_before_it_is_read(tmp_path: Path) -> None:
    plain, packed = saved(tmp_path / "plain.pt", torch.zeros(10**6)), tmp_path / "packed.pt"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry), zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 10**5
    with pytest.raises(dd.DamagedError, match=r"is packed: it says to hold 4,\d+,\d+ bytes"):
        read_pt(packed)


def test_a_file_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.pt", torch.zeros(10**4))
    monkeypatch.setattr(bounds, "machine_bytes", lambda: 10**4)
    with pytest.raises(dd.InputError, match=r"what .*x.pt holds would take .* Save fewer of its tensors"):
        read_pt(path)
    assert len(read_pt(path, mapped=True)) == 10**4
