"""Engines that carry work: each with two local workers, one of which is killed in the middle; skipped without them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from reference.workers import Killing

import dd
from dd.work.engines import RayExecutor

SEEDS = (0, 1, 2)
FIELDS: dict[str, Any] = {
    "ipc": 1,
    "train": {"steps": 2, "model": "convnet(width=4)"},
    "device": "cpu",
    "threads": 1,
    "progress": False,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the engines
    pytest.mark.usefixtures("known_to_workers"),
]


@pytest.fixture
def known_to_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import this checkout and the tests' own modules."""
    tests = Path(__file__).resolve().parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tests.parent}:{tests}")
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def compared(folder: Path, executor: Any, kill: bool = True) -> None:
    """The sets of an executor, one worker of which is killed, are those of this process."""
    executor = Killing(executor, "seed1", folder / "flag") if kill else executor
    dd.distill_many("digits", "random", seeds=SEEDS, out=folder / "shared", executor=executor, **FIELDS)
    assert (folder / "flag").exists() is kill
    notes = next((folder / "shared").glob("plan-*.work"))
    assert (notes / "seed1.json").exists()  # the pool of some engines is broken before others have begun
    dd.distill_many("digits", "random", seeds=SEEDS, out=folder / "alone", **FIELDS)
    for seed in SEEDS:
        made, wanted = (folder / run / f"seed{seed}" / "synthetic.safetensors" for run in ("shared", "alone"))
        assert made.read_bytes() == wanted.read_bytes()


def test_dask(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path)}
    with distributed.LocalCluster(**local) as cluster, distributed.Client(cluster) as client:
        compared(tmp_path, client.get_executor())


def test_ray(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        compared(tmp_path, RayExecutor(num_cpus=1, max_retries=2))
    finally:
        ray.shutdown()


def test_loky(tmp_path: Path) -> None:
    loky = pytest.importorskip("loky")
    executor = loky.get_reusable_executor(max_workers=2)
    try:
        compared(tmp_path, executor)
    finally:
        executor.shutdown(kill_workers=True)


def test_submitit(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=10)
    compared(tmp_path, executor, kill=False)


@pytest.mark.parametrize(("page", "package"), [("dask", "distributed"), ("ray", "ray"), ("submitit", "submitit")])
def test_the_program_of_a_page_runs(page: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    text = (Path(__file__).resolve().parents[2] / "docs" / "scale" / f"{page}.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "program.py").write_text(program.replace('"steps": 500', '"steps": 2'))
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.parent.name for path in (tmp_path / "shared").glob("*/run.json")} == {"seed0", "seed1", "seed2"}


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, *given: Any) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("dd.work.engines.importlib.import_module", none)
    with pytest.raises(dd.MissingError, match=r"RayExecutor needs the package ray .*: pip install ray"):
        RayExecutor()
