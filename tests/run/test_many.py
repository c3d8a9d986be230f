"""Several sets from one buffer: each is that of its own call, experts are made once, folders are gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base.files import read_json
from dd.cli.main import main
from dd.experts.train import ExpertTrainer
from dd.run import many, resolve

RECIPE = dd.ExpertRecipe(
    model="convnet(width=4)",
    augment="",
    batch_size=16,
    lr=0.05,
    experts=2,
    snapshots=3,
    snapshot_every=2,
    snapshot_unit="step",
)
METHOD = dd.MTT(
    ipc=1,
    expert=RECIPE,
    iterations=3,
    student_steps=2,
    expert_epochs=1,
    max_start_epoch=3,
    lr_img=1.0,
    train=dd.TrainRecipe(steps=2),
)


def run(store: Path, **arguments: Any) -> list[dd.SyntheticImages]:
    return dd.distill_many("digits", METHOD, store=store, progress=False, device="cpu", **arguments)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the experts that are trained."""
    seen: list[int] = []
    original: Callable[..., Any] = ExpertTrainer.snapshots

    def counted(self: ExpertTrainer, seed: int, *rest: Any) -> Any:
        seen.append(seed)
        return original(self, seed, *rest)

    monkeypatch.setattr(ExpertTrainer, "snapshots", counted)
    return seen


def test_sets_are_those_of_single_runs_from_one_buffer(tmp_path: Path, trained: list[int]) -> None:
    sets = run(tmp_path / "store", seeds=(3, 0), out=tmp_path / "out")
    assert sorted(trained) == [0, 1]  # not once a seed
    assert len(list((tmp_path / "store").rglob("*.safetensors"))) == 2
    assert not torch.equal(sets[0].images, sets[1].images)
    for seed, small in zip((3, 0), sets, strict=True):
        assert small.provenance["seed"] == seed
        alone = dd.distill("digits", METHOD, seed=seed, store=tmp_path / "store", progress=False, device="cpu")
        assert (
            alone.save(tmp_path / "x").read_bytes()
            == (tmp_path / "out" / f"seed{seed}" / "synthetic.safetensors").read_bytes()
        )


def test_it_goes_on_folder_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    whole = run(store, seeds=(0, 1, 2))
    calls: list[int] = []
    original = many.distill

    def cut(*args: Any, seed: int, **rest: Any) -> dd.SyntheticImages:
        calls.append(seed)
        if seed == 1:
            raise KeyboardInterrupt
        return original(*args, seed=seed, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(many, "distill", cut)
        with pytest.raises(KeyboardInterrupt):
            run(store, seeds=(0, 1, 2), out=out)
    assert calls == [0, 1]
    assert sorted(p.name for p in out.iterdir()) == ["seed0"]
    before = (out / "seed0" / "run.json").stat().st_mtime_ns
    sets = run(store, seeds=(0, 1, 2), out=out)
    assert (out / "seed0" / "run.json").stat().st_mtime_ns == before  # read, not repeated
    assert all(read_json(out / f"seed{s}" / "run.json")["finished"] for s in (0, 1, 2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(sets, whole, strict=True))


def test_data_is_loaded_once_and_the_preset_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    asked: list[tuple[Any, ...]] = []
    load, look_up = resolve.load_images, resolve.preset

    def counted(data: object, **options: Any) -> dd.Images:
        if not isinstance(data, dd.Images):
            loaded.append((data, options["size"], options["aspect"]))
        return load(data, **options)

    def looked_up(*named: Any, **options: Any) -> Any:
        asked.append(named)
        return look_up(*named, **options)

    monkeypatch.setattr(resolve, "load_images", counted)
    monkeypatch.setattr(resolve, "preset", looked_up)
    small, _ = run(tmp_path, seeds=[0, 1], size=12, protocol="paper")
    assert (loaded, asked) == ([("digits", 12, None)], [])  # a value has no preset
    assert small.size == (12, 12)
    assert small.provenance["protocol"] == "paper"
    fields: dict[str, Any] = {"ipc": 2, "train": {"steps": 2}, "progress": False}
    many_sets = dd.distill_many("digits", "random", seeds=(0, 1), **fields)
    assert (loaded[1:], asked) == ([("digits", None, None)], [("random", "digits", 2, "auto")])
    alone = dd.distill("digits", "random", seed=1, **fields)
    assert (len(loaded), len(asked)) == (3, 2)
    assert alone.save(tmp_path / "a").read_bytes() == many_sets[1].save(tmp_path / "b").read_bytes()
    dd.estimate("digits", "mtt", ipc=1)
    assert (len(loaded), len(asked)) == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"seeds": ()}, r"`seeds` must be at least one whole number, each once; got \(\)"),
        ({"seeds": (0, 0)}, r"`seeds` must be at least one whole number, each once; got \(0, 0\)"),
        ({"seeds": (0, 1.5)}, r"`seeds` must be at least one whole number, each once; got \(0, 1.5\)"),
        ({"seeds": (True,)}, "`seeds` must be at least one whole number"),
        ({"seeds": 3}, "`seeds` must be a sequence of whole numbers; got 3. For one set use `dd.distill`"),
        ({"seeds": "01"}, "`seeds` must be at least one whole number"),
        ({"seed": 3}, "`seed` must be left out; got 3. Give `seeds=`"),
    ],
)
def test_refusals_come_before_anything_is_loaded(tmp_path: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(dd.InputError, match=text):
        dd.distill_many("nowhere", "mtt", **arguments)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    words = ["distill", "digits", "random", "--ipc", "1", "--quiet"]
    assert main([*words, "--seeds", "4", "7", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    folders = [Path("runs") / "digits-random" / f"seed{seed}" for seed in (4, 7)]
    assert [Path(told["path"]).parent for told in answer["sets"]] == folders
    assert [told["provenance"]["seed"] for told in answer["sets"]] == [4, 7]
    assert all((folder / "grid.png").exists() for folder in folders)
    assert main([*words, "--seeds", "4", "7"]) == 0
    assert capsys.readouterr().out.count("10 images in ") == 2
    assert main([*words, "--seeds", "4", "--seed", "2"]) == 2
    assert "`seed` must be left out beside `seeds`; got 2" in capsys.readouterr().err
