"""Trajectory matching that starts from a set: what is taken, what is refused, and what names the run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base.files import read_digest
from dd.cli.distill import with_method
from dd.cli.main import main
from dd.cli.twins import DistillOptions
from dd.methods import METHODS, Run
from dd.methods.trajectory.given import check_start
from dd.pages.commands import distill_command
from dd.run.resolve import preset_for, resolve_method
from dd.synthetic import SyntheticImages, TrainRecipe, digest_of
from dd.transforms.whiten import Normalise

FEW: dict[str, Any] = {"augment": "", "batch_size": 64, "snapshot_every": 2, "snapshot_unit": "step"}
RECIPE = dd.ExpertRecipe(model="convnet(width=4)", lr=0.05, experts=2, snapshots=4, **FEW)
FIELDS: dict[str, Any] = {
    "ipc": 1,
    "expert": RECIPE,
    "iterations": 2,
    "student_steps": 2,
    "expert_epochs": 1,
    "max_start_epoch": 3,
    "lr_img": 10.0,
    "train": TrainRecipe(steps=2),
}


@pytest.fixture(scope="module")
def real() -> dd.Images:
    found = dd.load_images("digits")
    return dd.load_images(
        dd.Images(
            train=(found.train.pixels()[:400], found.train.labels[:400]),
            test=(found.test.pixels()[:100], found.test.labels[:100]),  # type: ignore[union-attr]
        )
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def first(real: dd.Images, store: Path) -> SyntheticImages:
    made = dd.distill(real, dd.MTT(**FIELDS, lr_init=0.03, lr_lr=1e-4), store=store)
    assert isinstance(made, SyntheticImages)
    return made


def start(value: dd.TrajectoryMatching, real: dd.Images, store: Path) -> dict[str, torch.Tensor]:
    """The state after a run without learning: that in which it began."""
    still = dataclasses.replace(value, iterations=1, lr_img=1e-30, lr_lr=0.0, lr_label=1e-30)
    assert still.init == value.init
    return dict(next(iter(still.distill(real, Run(store=store)))).state)


@pytest.mark.parametrize("name", ["mtt", "ftd", "ast", "tesla", "datm"])
def test_images_and_step_size_are_taken(name: str, real: dd.Images, store: Path, first: SyntheticImages) -> None:
    value = METHODS[name](**{**FIELDS, "intermediate": "none"}, init=first, skip_above=1e9)
    state = start(value, real, store)
    assert torch.equal(state["images"], first.images)
    assert float(state["lr"]) == pytest.approx(first.recipe.lr)
    other = METHODS[name](**{**FIELDS, "intermediate": "none"}, init=first, skip_above=1e9, lr_init=0.5)
    assert float(start(other, real, store)["lr"]) == 0.5
    assert ("logits" in state) == (name == "datm")


def test_images_come_in_the_order_of_their_classes(real: dd.Images, store: Path, first: SyntheticImages) -> None:
    order = torch.tensor([3, 1, 0, 2, 9, 8, 7, 6, 5, 4])
    turned = dataclasses.replace(first, stored=None, images=first.images[order], labels=first.labels[order])
    assert torch.equal(start(dd.MTT(**FIELDS, init=turned), real, store)["images"], first.images)


def test_soft_labels_are_taken_where_they_are_learned(real: dd.Images, store: Path, first: SyntheticImages) -> None:
    labels = torch.rand(10, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    labels[0] = torch.eye(10)[0]
    soft = dataclasses.replace(first, labels=labels)
    value = dd.DATM(**FIELDS, init=soft)
    assert value.snapshots_read == value.snapshots_matched
    torch.testing.assert_close(start(value, real, store)["logits"].softmax(1), labels, rtol=0, atol=1e-6)
    hard = start(dd.DATM(**FIELDS, init=first), real, store)["logits"]
    assert hard.shape == (10, 10)
    assert hard.isfinite().all()


def test_only_a_step_size_that_was_learned_is_taken(real: dd.Images, store: Path) -> None:
    drawn = dd.distill(real, "random", ipc=1, lr=0.7)
    assert float(start(dd.MTT(**FIELDS, init=drawn), real, store)["lr"]) == pytest.approx(0.01)
    theirs = dataclasses.replace(drawn, method={"name": "imported"})
    assert float(start(dd.MTT(**FIELDS, init=theirs), real, store)["lr"]) == pytest.approx(0.7)
    asked: list[dict[str, Any]] = [
        {"init": drawn},
        {"init": theirs},
        {"init": theirs, "lr_init": 0.2},
        {"init": "noise"},
    ]
    row = dd.methods.presets.preset("mtt", "digits", 1, "cpu").fields["lr_init"]
    cpu = torch.device("cpu")
    made: list[Any] = [resolve_method("mtt", "digits", "cpu", cpu, {"ipc": 1, **fields})[0] for fields in asked]
    assert [value.lr_init for value in made] == [row, 0.7, 0.2, row]


def test_another_normalisation_is_turned_into_that_of_the_data(
    real: dd.Images, store: Path, first: SyntheticImages
) -> None:
    assert isinstance(first.transform, Normalise)
    pixels = first.transform.inverse(first.images)
    other = Normalise((0.1,), (0.7,))
    theirs = dataclasses.replace(first, stored=None, images=other.forward(pixels), transform=other, transform_record={})
    made = start(dd.MTT(**FIELDS, init=theirs), real, store)["images"]
    torch.testing.assert_close(made, first.images, rtol=0, atol=1e-5)


def test_a_whitened_run_starts_from_a_whitened_set(real: dd.Images, tmp_path: Path) -> None:
    whitened = {**FIELDS, "expert": dataclasses.replace(RECIPE, whiten=True)}
    made = dd.distill(real, dd.MTT(**whitened), store=tmp_path)
    path = made.save(tmp_path / "set.safetensors")  # without the matrix
    value = dd.MTT(**whitened, init=path)
    assert torch.equal(start(value, real, tmp_path)["images"], made.images)
    few = dd.load_images(dd.Images(train=(real.train.pixels()[:300], real.train.labels[:300]), test=None))
    with pytest.raises(dd.InputError, match=r"`init` must be a set whitened by these training images.*`protocol`"):
        dd.distill(few, value, store=tmp_path)
    with pytest.raises(dd.InputError, match=r"a set that is not whitened; .*Give `whiten=True`"):
        dd.distill(real, dd.MTT(**FIELDS, init=path), store=tmp_path)


def refusals(small: SyntheticImages) -> dict[str, tuple[Any, dict[str, Any], str]]:
    names = tuple("abcdefghij")
    wide = torch.zeros(10, 1, 16, 16)
    one = dataclasses.replace(small, stored=None, images=small.images[:9], labels=small.labels[:9])
    return {
        "classes": (
            dataclasses.replace(small, classes=names),
            {},
            "of the classes 0, 1, .*; got 10: a, .*classes=real",
        ),
        "size": (
            dataclasses.replace(small, stored=None, images=wide),
            {},
            r"images \[1, 8, 8\], like the data; .*`size=16`",
        ),
        "canvas": (
            dataclasses.replace(small, stored=None, images=wide, canvas=2),
            {},
            "a set of canvas 1, .*Give `canvas=2`",
        ),
        "ipc": (small, {"ipc": 2}, "a set of ipc=2 images a class; got 1. Give `ipc=1`"),
        "unequal": (one, {}, "ipc=1 images of each class; got 0 to 1. .*leave some out"),
        "soft": (dataclasses.replace(small, labels=torch.eye(10)), {}, r"`init=small\.hard\(\)`, or .*`datm`"),
        "soft, few": (
            dataclasses.replace(one, labels=torch.eye(10)[:9]),
            {"labels": "learned"},
            "10 images, ipc=1 .*got 9",
        ),
    }


@pytest.mark.parametrize("name", ["classes", "size", "canvas", "ipc", "unequal", "soft", "soft, few"])
def test_what_does_not_fit_is_refused_before_any_work(
    name: str, real: dd.Images, first: SyntheticImages, tmp_path: Path
) -> None:
    small, fields, message = refusals(first)[name]
    with pytest.raises(dd.InputError, match=f"`init` must be .*{message}"):
        dd.distill(real, dd.MTT(**{**FIELDS, **fields}, init=small), store=tmp_path, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    for wrong in ("reel", tmp_path / "none.safetensors"):
        with pytest.raises(dd.MissingError, match=r"`init` must be real, noise, .* there is no .*its hash counts"):
            dd.MTT(init=wrong)
    for other in (3, None, "", torch.zeros(1), ("real",)):
        with pytest.raises(
            dd.InputError, match=r"`init` must be real, noise, .*, or a set, its file or its run folder"
        ):
            dd.MTT(init=other)
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(dd.DamagedError):
        dd.MTT(init=tmp_path / "a.safetensors")


def test_the_hash_names_the_set_and_not_its_path(first: SyntheticImages, tmp_path: Path) -> None:
    one = first.save(tmp_path / "a.safetensors")
    two = first.save(tmp_path / "run" / "synthetic.safetensors").parent
    values = [dd.MTT(**FIELDS, init=init) for init in (first, one, str(one), two)]
    assert all(value == values[0] for value in values)
    told = {json.dumps(value.describe(), sort_keys=True) for value in values}
    assert len(told) == 1
    assert values[0].describe()["init"] == {"set": "mtt", "sha256": read_digest(one)}
    assert digest_of(first) == read_digest(one)
    assert f"init=GivenSet(set='mtt', sha256='{digest_of(first)}')" in repr(values[0])
    other = dataclasses.replace(first, stored=None, images=first.images + 1)
    assert dd.MTT(**FIELDS, init=other) != values[0]


def test_a_run_goes_on_where_the_same_set_is_given(
    real: dd.Images, store: Path, first: SyntheticImages, tmp_path: Path
) -> None:
    path, out = first.save(tmp_path / "a.safetensors"), tmp_path / "run"

    def stop(done: int, total: int, text: str) -> None:
        if (done, total) == (2, 4):
            raise KeyboardInterrupt

    value = {**FIELDS, "iterations": 4}
    with pytest.raises(KeyboardInterrupt):
        dd.distill(real, dd.MTT(**value, init=path), store=store, out=out, progress=stop)
    path.unlink()
    with pytest.raises(dd.MissingError, match="goes on where the same set is given again"):
        dd.MTT(**value, init=path)
    other = dataclasses.replace(first, stored=None, images=first.images + 1)
    with pytest.raises(dd.InputError, match=r"another run \(method\.init\.sha256: '\w+' there, '\w+' asked for"):
        dd.distill(real, dd.MTT(**value, init=other), store=store, out=out)
    made = dd.distill(real, dd.MTT(**value, init=first), store=store, out=out)
    whole = dd.distill(real, dd.MTT(**value, init=first), store=store)
    assert torch.equal(made.images, whole.images)
    assert dd.load(out).method["init"] == {"set": "mtt", "sha256": digest_of(first)}
    report = dd.evaluate(out, real, repeats=1, baselines=())
    assert report.method == f"mtt, 10 images (uint8), begun from the set mtt {digest_of(first)[:12]}"
    assert report.method in (out / "index.html").read_text()


def test_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    small = dd.distill("digits", "random", ipc=1)
    small.save("a.safetensors")
    few = ["--iterations", "1", "--student-steps", "1", "--max-start-epoch", "1", "--expert.experts", "1"]
    few += ["--expert.snapshots", "4", "--expert.model", "convnet(width=4)", "--expert.snapshot-every", "1"]
    few += ["--expert.snapshot-unit", "step", "--train.steps", "2", "--store", "store", "--ipc", "1"]
    assert main(["distill", "digits", "mtt", "--init", "a.safetensors", "--out", "run", *few]) == 0
    assert "but for `expert`, `iterations`, `student_steps`, `max_start_epoch`, `init`" in capsys.readouterr().err
    run = json.loads(Path("run/run.json").read_text())
    assert run["request"]["method"]["init"] == {"set": "random", "sha256": digest_of(small)}
    told = distill_command(run, "run")
    assert told is not None
    assert f"--init SET-{digest_of(small)[:12]} " in told
    shutil.move("a.safetensors", "b.safetensors")
    assert main(["distill", "digits", "mtt", "--init", "b.safetensors", "--out", "run", *few]) == 0
    capsys.readouterr()
    assert main(["distill", "digits", "mtt", "--init", "a.safetensors", "--out", "run", *few]) == 1
    assert "there is no a.safetensors" in capsys.readouterr().err
    assert main(["distill", "digits", "mtt", "--init", "noise", "--out", "other", *few]) == 0


def test_numbers_of_classes_are_no_other_names_of_numbers_in_the_order_of_texts(first: SyntheticImages) -> None:
    labels = [("1", "0", *map(str, range(2, 10)))[k] for k in range(10) for _ in range(4)]
    names = ["1", "0", *map(str, range(2, 10))]
    pixels = torch.randint(0, 255, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    real = dd.load_images((pixels, labels), classes=names)
    with pytest.raises(dd.InputError, match="a set of the classes 1, 0, 2"):
        check_start(dd.MTT(**FIELDS, init=first), real)
    renamed = dataclasses.replace(first, classes=real.classes)
    check_start(dd.MTT(**FIELDS, init=renamed), real)


@pytest.mark.parametrize(("word", "meant"), [("Real", "real"), ("noize", "noise"), ("corect", "correct")])
def test_a_word_that_is_nearly_one_is_offered(word: str, meant: str) -> None:
    with pytest.raises(dd.MissingError, match=f"not its path. Did you mean {meant}"):
        dd.MTT(init=word)


def test_a_step_size_that_the_shell_says_goes_before_the_learned_one_where_it_is_the_preset_s_too(
    tmp_path: Path, first: SyntheticImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first.save("a.safetensors")
    words = ["digits", "mtt", "--init", "a.safetensors", "--ipc", "1", "--preset", "cpu"]
    preset = preset_for("mtt", "digits", "cpu", torch.device("cpu"), {"ipc": 1}).fields["lr_init"]
    for said, wanted in ((["--lr-init", str(preset)], preset), ([f"--lr_init={preset}"], preset), ([], None)):
        assert with_method("distill", DistillOptions, [*words, *said])[3].get("lr_init") == wanted


def test_it_is_estimated(real: dd.Images, first: SyntheticImages) -> None:
    told = [dd.estimate(real, dd.MTT(**FIELDS, init=init)).to_json() for init in ("real", first)]
    assert told[0] == told[1]
    with pytest.raises(dd.InputError, match="Give `ipc=1`"):
        dd.estimate(real, dd.MTT(**{**FIELDS, "ipc": 2}, init=first))
