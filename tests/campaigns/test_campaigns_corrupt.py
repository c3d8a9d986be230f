"""A share of the campaign that damages files, and that it would notice if nothing were checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dd.base import jsons, seals
from scripts.campaigns import corrupt


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_damaged_files_are_refused_or_read_as_they_were_written() -> None:
    tally = corrupt.run(0.015, seed=1)
    assert tally.clean, tally.told
    assert len(tally.parts) == 22
    assert tally.more["refused"] > 0.9 * tally.parts.total()


def test_without_checksums_the_campaign_tells_silent_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (jsons, seals):
        monkeypatch.setattr(module, "matches", lambda *_: True)
    tally = corrupt.run(0.1, seed=1, chosen=[corrupt.sets])
    assert tally.faults["silent"] > 0
