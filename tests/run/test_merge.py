"""Sets joined into one: what is joined, what is refused and why, and what the merged set says of its parents."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.synthetic import real, small, soft, whitened

import dd
from dd.base.seeding import child
from dd.cli.main import main
from dd.synthetic import Layout, SyntheticImages, TrainRecipe, digest_of
from dd.testing.made import graphs, pictures
from dd.transforms.whiten import Normalise


def other(seed: int = 1, **fields: Any) -> SyntheticImages:
    images = torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(seed))
    return small(**{"images": images, "labels": torch.tensor([0, 0, 0, 0, 1, 1]), **fields})


def test_images_labels_and_parents(tmp_path: Path) -> None:
    first, second = small(), other()
    path = second.save(tmp_path / "b.safetensors")
    folder = other(2).save(tmp_path / "run" / "synthetic.safetensors").parent
    made = dd.merge([first, path, str(folder)])
    assert torch.equal(made.images, torch.cat([first.images, second.images, other(2).images]))
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2] + 2 * [0, 0, 0, 0, 1, 1]
    assert (made.counts, made.ipc) == ((10, 6, 2), 6)
    assert "18 images, 3 classes, 2 to 10 a class" in repr(made)
    assert made.recipe == first.recipe
    assert [one["sha256"] for one in made.provenance["parents"]] == [digest_of(s) for s in (first, second, other(2))]
    assert made.method == {"name": "merged", "of": ["mtt"]}
    back = dd.load(made.save(tmp_path / "made.safetensors"))
    assert isinstance(back, SyntheticImages)
    assert torch.equal(back.images, made.images)
    assert (back.counts, dict(back.provenance)) == (made.counts, dict(made.provenance))


def test_one_set_and_three_hundred() -> None:
    assert torch.equal(dd.merge([small()]).images, small().images)
    many = dd.merge([other(seed) for seed in range(300)])
    assert len(many) == 1800
    assert len(many.provenance["parents"]) == 300


def test_unequal_recipes_ask_which_one_rules() -> None:
    second = other(recipe=dataclasses.replace(small().recipe, lr=0.2, steps=9))
    with pytest.raises(dd.InputError, match=r"`recipe` must be given .* sets with steps, lr of .*Say .*`recipe=0`"):
        dd.merge([small(), second])
    assert dd.merge([small(), second], recipe=1).recipe == second.recipe
    assert dd.merge([small(), second], recipe=TrainRecipe(steps=3)).recipe == TrainRecipe(steps=3)
    for wrong in (2, -1, True, "first"):
        with pytest.raises(dd.InputError, match=r"`recipe` must be a TrainRecipe, or one of 0…1"):
            dd.merge([small(), second], recipe=wrong)  # type: ignore[arg-type]


def refusals() -> dict[str, tuple[Any, str]]:
    record = {"kind": "zca", "eps": 0.1, "shape": [2, 4, 5], "hash": "a", "fitted_on": "b"}
    mean = torch.zeros(40)
    zca = other(transform=None, transform_record={**record, "tensors": {"whiten_mean": mean}})
    zca2 = dataclasses.replace(zca, transform_record={**record, "hash": "c"})
    return {
        "none": ([], "`sets` must be at least one set; got none"),
        "a set": (small(), "`sets` must be a list of sets"),
        "a path": ("a.safetensors", "`sets` must be a list of sets"),
        "a number": ([small(), 3], r"`sets\[1\]` must be a set, its file or its run folder; got an int"),
        "twice": ([small(), other(), small()], "different sets; got the same one at 0 and 2. Leave it out"),
        "classes": (
            [small(), other(classes=("a", "b", "x"))],
            r"`sets\[1\]` must be of the classes .*others, such as x",
        ),
        "order": ([small(), other(classes=("b", "a", "ü"))], "in another order or number.*`dataclasses.replace"),
        "shape": (
            [small(), other(images=torch.zeros(6, 2, 5, 5))],
            r"images \[2, 4, 5\], like sets\[0\]; got \[2, 5, 5\]",
        ),
        "normalised": (
            [small(), other(transform=Normalise((0.5, 0.5), (1.0, 1.0)))],
            "another mean and std.*mean=…, std",
        ),
        "whitened": ([small(), zca], "must be normalised, like .* another whitening.*`whiten=False`"),
        "two whitenings": ([zca, zca2], "whitened by the same images as"),
        "soft": ([small(), other(labels=soft())], r"with classes for labels, .* soft labels. Give `small.hard\(\)`"),
        "hard": ([other(labels=soft()), small()], r"with soft labels, like sets\[0\]; got classes for labels"),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_cannot_be_joined_is_refused(name: str) -> None:
    sets, message = refusals()[name]
    with pytest.raises(dd.InputError, match=message):
        dd.merge(sets)


def test_canvases_of_one_size_are_joined_and_others_refused() -> None:
    def canvases(canvas: int, samples: int, seed: int) -> SyntheticImages:
        images = torch.randn(6, 2, 8, 4, generator=torch.Generator().manual_seed(seed))
        return small(images=images, canvas=canvas, canvas_samples=samples)

    assert dd.merge([canvases(2, 3, 0), canvases(2, 3, 1)]).canvas == 2
    with pytest.raises(dd.InputError, match=r"of canvas=2, canvas_samples=3, like .*crop all images of a set alike"):
        dd.merge([canvases(2, 3, 0), canvases(2, 4, 1)])
    with pytest.raises(dd.InputError, match="canvas=1, canvas_samples=1"):
        dd.merge([canvases(2, 3, 0), canvases(1, 1, 1)])


def test_summaries_compensated_images_and_stored_labels_are_refused_with_the_reason(tmp_path: Path) -> None:
    teacher = dd.TeacherRecipe(model="convnet(width=4, depth=1, norm=batch)", epochs=1)
    summary = dd.distill(graphs(), "mirage", budget_bytes=None, min_support=2, patterns="single", depth=1)
    infer = dd.distill(
        pictures(), "infer", ipc=2, committee=("convnet(width=4, depth=1, norm=batch)",), teacher=teacher,
        iterations=1, label_epochs=1, store=tmp_path,
    )  # fmt: skip
    labelled = dd.distill(
        pictures(), "rded", ipc=2, committee=("convnet(width=4, depth=1, norm=batch)",), teacher=teacher,
        label_epochs=1, store=tmp_path,
    )  # fmt: skip
    for made, message in (
        (summary, "a set of images; got a summary of graphs: what one left out, it has no count of"),
        (infer, "a set of plain images; got compensated images: .* belong to each other alone"),
        (labelled, r"one label an image; got stored labels.*`small.hard\(\)`"),
    ):
        with pytest.raises(dd.InputError, match=message):
            dd.merge([made])
    assert isinstance(labelled, SyntheticImages)
    assert len(dd.merge([labelled.hard()])) == len(labelled)


def test_the_way_out_of_another_normalisation() -> None:
    first, one = small(), other(transform=Normalise((0.5, 0.5), (1.0, 1.0)))
    with pytest.raises(dd.InputError) as caught:
        dd.merge([first, one])
    (line,) = re.findall(r"`(dataclasses\.replace.*?)`\.", str(caught.value))
    there = eval(line, {"dataclasses": dataclasses, "small": one, "first": first})
    torch.testing.assert_close(dd.merge([first, there]).pixels()[6:], one.pixels())


def test_whitened_sets_of_the_same_images_are_joined_with_or_without_the_matrix(tmp_path: Path) -> None:
    data = real()
    one = whitened(data)
    two = dataclasses.replace(one, images=one.images + 1)
    bare = dd.load(one.save(tmp_path / "a.safetensors"))
    assert bare.transform is None  # type: ignore[union-attr]
    for sets in ([bare, two], [two, bare]):
        assert dd.merge(sets).transform is two.transform
    saved = dd.load(dd.merge([bare]).save(tmp_path / "b.safetensors"))
    assert saved.attach(data.train).transform is not None  # type: ignore[union-attr, arg-type]


def test_soft_labels_are_joined() -> None:
    made = dd.merge([small(labels=soft()), other(labels=soft())])
    assert made.labels.shape == (12, 3)
    assert made.counts == (4, 4, 4)
    few = dataclasses.replace(made, images=made.images[:7], labels=torch.eye(3)[torch.tensor([0, 0, 0, 0, 1, 1, 2])])
    assert few.counts == (4, 2, 1)


def test_training_images_of_all_parents_are_known_in_the_merged_set() -> None:
    data = pictures()
    pixels, labels = (data.train.pixels() * 255).round().to(torch.uint8), data.train.labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = [order[: len(order) // 2], order[len(order) // 2 :]]
    sets = [
        dd.distill(dd.Images(train=(pixels[part], labels[part]), mean=data.mean, std=data.std), "random", ipc=1)
        for part in parts
    ]
    made = dd.merge(sets)
    assert made.provenance["protocol"] == "clean"
    assert "data_sha256" not in made.provenance
    for part in parts:
        with pytest.warns(UserWarning, match="the test images are those that the set was made from"):
            report = dd.evaluate(made, (pixels[part], labels[part]), steps=1, repeats=1, models="mlp")
        assert report.split == "training data"
    unknown = dataclasses.replace(sets[0], provenance={})
    assert dd.merge([unknown, sets[1]]).provenance["training_items"] is None


def test_the_paper_s_protocol_of_one_is_that_of_all() -> None:
    sets = [small(provenance={"protocol": "paper"}), other(provenance={"protocol": "clean", "dataset": "x"})]
    assert dd.merge(sets).provenance["protocol"] == "paper"
    assert "dataset" not in dd.merge(sets).provenance


def test_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    small().save("a.safetensors")
    other(recipe=TrainRecipe(steps=3)).save("b.safetensors")
    assert main(["merge", "a.safetensors", "b.safetensors", "--out", "c.safetensors"]) == 2
    assert "`recipe` must be given" in capsys.readouterr().err
    assert not Path("c.safetensors").exists()
    assert main(["merge", "a.safetensors", "b.safetensors", "--out", "c.safetensors", "--recipe", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["provenance"]["selection"] == "merged of 2 sets"
    assert len(dd.load("c.safetensors")) == 12
    assert main(["merge", "a.safetensors", "--out", "d.safetensors"]) == 0
    assert "d.safetensors (" in capsys.readouterr().out
    assert main(["merge", "a.safetensors", "none", "--out", "e.safetensors"]) == 1
    capsys.readouterr()
    assert main(["merge", "a.safetensors", "--out", "."]) == 1
    assert capsys.readouterr().err.count("could not write") == 1


def test_the_shell_replaces_no_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small().save("a.safetensors")
    other().save("run/synthetic.safetensors")
    Path("link.safetensors").symlink_to("a.safetensors")
    before = [Path(file).read_bytes() for file in ("a.safetensors", "run/synthetic.safetensors")]
    for out in ("a.safetensors", "./a.safetensors", "link.safetensors", "run/synthetic.safetensors"):
        assert main(["merge", "a.safetensors", "run", "--out", out]) == 2
        assert f"`out` must be another file than those that are merged; got {Path(out)}" in capsys.readouterr().err
    assert [Path(file).read_bytes() for file in ("a.safetensors", "run/synthetic.safetensors")] == before
    assert main(["merge", "a.safetensors", "run", "--out", "b.safetensors"]) == 0


def test_the_shell_replaces_no_set_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small().save("a.safetensors")
    Path("run").mkdir()
    Path("run/run.json").write_text("{}")
    assert main(["merge", "a.safetensors", "--out", "run/synthetic.safetensors"]) == 2
    assert "`out` must be a file beside no run.json" in capsys.readouterr().err
    assert not Path("run/synthetic.safetensors").exists()
    assert main(["merge", "a.safetensors", "--out", "run/merged.safetensors"]) == 0


def test_the_shell_replaces_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small().save("a.safetensors")
    other().save("b.safetensors")
    other(2).save("all.safetensors")
    Path("notes.txt").write_text("mine")
    for out in ("all.safetensors", "notes.txt"):
        before = Path(out).read_bytes()
        assert main(["merge", "a.safetensors", "b.safetensors", "--out", out]) == 2
        told = f"`out` must be a new file, or that of the same merged set; got {out}, which is neither. Name another"
        assert told in capsys.readouterr().err
        assert Path(out).read_bytes() == before
    Path("all.safetensors").rename("old.safetensors")  # the way out
    for _ in range(2):  # and the same command again
        assert main(["merge", "a.safetensors", "b.safetensors", "--out", "all.safetensors"]) == 0


def test_sets_that_are_no_list_are_told_how_to_be_one() -> None:
    with pytest.raises(
        dd.InputError, match=r"`sets` must be a list of sets.*; got 2 arguments. Write `dd.merge\(\[a, b"
    ):
        dd.merge(small(), other())


def laid(seed: int, storage: Any, factor: int = 2) -> SyntheticImages:
    """Two stored images 1×8×8, of two classes."""
    layout, images = Layout(factor=factor, storage=storage), torch.randn(2, 1, 8, 8, generator=child(seed, "laid"))
    return SyntheticImages(
        **layout.parts(images, torch.arange(2)),
        classes=("a", "b"),
        recipe=TrainRecipe(steps=3),
        transform=Normalise((0.5,), (0.25,)),
    )


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_stored_images_of_one_layout_are_joined_as_they_are(storage: Any, tmp_path: Path) -> None:
    first, second = laid(0, storage), laid(1, storage)
    made = dd.merge([first, second])
    assert (made.layout, made.counts) == (first.layout, (2, 2))
    assert torch.equal(made.stored_images, torch.cat([first.stored_images, second.stored_images]))
    assert torch.equal(made.images, torch.cat([first.images, second.images]))
    assert dd.load(made.save(tmp_path / "made.safetensors")) == made


@pytest.mark.parametrize(("other", "factor"), [("uint8", 1), ("uint8", 2), ("fp16", 2), ("fp32", 1)])
def test_other_bits_and_other_levels_are_joined_in_float32_number_for_number(other: Any, factor: int) -> None:
    first, second = laid(0, "uint8", factor), laid(1, other, factor)
    made = dd.merge([first, second])
    assert made.layout == Layout(factor=factor)
    assert torch.equal(made.stored_images, torch.cat([first.stored_images, second.stored_images]))
    assert torch.equal(made.images, torch.cat([first.images, second.images]))
    assert [parent["sha256"] for parent in made.provenance["parents"]] == [digest_of(one) for one in (first, second)]
    assert made.pack("uint8").nbytes.images == made.nbytes.images // 4


def test_sets_of_the_same_levels_stay_uint8() -> None:
    first, second = laid(0, "uint8"), laid(1, "uint8")
    assert first.stored is not None
    again = dataclasses.replace(
        second, **second.layout.parts(second.stored_images, torch.arange(2), first.stored.levels)
    )
    assert dd.merge([first, again]).layout == first.layout


def test_other_layouts_are_refused_with_the_way_out() -> None:
    with pytest.raises(dd.InputError, match=r"stored as fp32, like sets\[0\]; got factor 2, fp32. .*stored=None"):
        dd.merge([laid(0, "fp32", 1), laid(1, "fp32")])
    assert len(dd.merge([laid(0, "fp32", 1), dataclasses.replace(laid(1, "fp32"), stored=None)])) == 10
