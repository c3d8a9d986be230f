"""Run folders: another run is told apart, by a field that only one of the two has as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from dd.errors import InputError
from dd.runs import RunFolder


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"seed": 0, "method": {"ipc": 2}}, r"method.ipc: 1 there, 2 asked for"),
        ({"seed": 0, "method": {"ipc": 1, "label_bytes": None}}, r"method.label_bytes: nothing there, None asked for"),
        ({"method": {"ipc": 1}}, r"seed: 0 there, nothing asked for"),
    ],
)
def test_another_run_is_refused_with_what_differs(tmp_path: Path, asked: dict[str, object], text: str) -> None:
    RunFolder(tmp_path, {"seed": 0, "method": {"ipc": 1}}, {}, resume=True)
    with pytest.raises(InputError, match=rf"holds another run \({text}\)\. Name another folder"):
        RunFolder(tmp_path, asked, {}, resume=True)
    assert not RunFolder(tmp_path, {"seed": 0, "method": {"ipc": 1}}, {}, resume=True).finished
