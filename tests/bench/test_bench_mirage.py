"""The bench of Mirage runs in its rows that need no data; times and sizes are the machine's and not asserted."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "scripts" / "bench"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("bench_mirage", BENCH / "mirage.py")
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made
    finally:
        sys.path.remove(str(BENCH))


def test_synthetic_molecules_are_connected_graphs_that_a_seed_draws(bench: ModuleType) -> None:
    made, again = bench.molecules(200, 1), bench.molecules(200, 1)
    assert torch.equal(made.edge_index, again.edge_index)
    assert torch.equal(made.x, again.x)
    assert not torch.equal(made.x[:1000], bench.molecules(200, 2).x[:1000])
    assert 15 <= int(made.ptr.diff().min()) <= int(made.ptr.diff().max()) <= 35
    label = torch.arange(made.num_nodes)
    for _ in range(40):  # the least node number that can be reached
        label = label.scatter_reduce(0, made.edge_index[1], label[made.edge_index[0]], "amin")
    assert torch.equal(torch.unique(label), made.ptr[:-1])


def test_the_twin_counts_what_refinement_counts(bench: ModuleType) -> None:
    from reference.trees import levels_by_hand

    from dd.data.graphs.codes import fit_codes

    split = bench.molecules(12, 0)
    codes = fit_codes(split)
    levels, _ = levels_by_hand(split, codes, 2)
    assert bench.written_out(split, codes.nodes(split).tolist(), 2) == len(levels[-1])


@pytest.mark.slow  # a process a row
def test_one_object_with_all_rows() -> None:
    arguments = ["--small", "30", "--large", "90", "--repeats", "1", "--threads", "1", "--root", "nowhere", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(BENCH / "mirage.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"nci1", "hiv", "twin", "small", "large", "star"}
    assert "missing" in found["nci1"]
    assert found["large"]["ratio"] == pytest.approx(found["large"]["seconds"] / found["small"]["seconds"])
    assert found["star"]["trees"] == [1, 2, 2, 2]
