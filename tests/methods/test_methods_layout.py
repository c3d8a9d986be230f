"""Methods with stored images that are several pictures, or fewer bits: gradients, starts, costs, any two options."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference.loops import RECIPE, loop, method
from reference.matching import matching_loss

import dd
from dd.cli.main import main
from dd.inner.fast import adjoint_fast
from dd.methods import METHODS, Run
from dd.methods.presets import preset, replace_fields, rows
from dd.methods.table import class_of, kind_of
from dd.synthetic import Layout
from dd.synthetic.layout import STORAGE
from dd.testing.check import check_method
from dd.testing.made import pictures
from dd.transforms.whiten import make_transform


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def real() -> dd.Images:
    return dd.load_images("digits")


# Trajectory matching

OPTIONS: dict[str, dict[str, Any]] = {
    "factor": {"factor": 2},
    "mirror": {"mirror": True},
    "both": {"factor": 2, "mirror": True, "batch_syn": 7, "student_steps": 4, "momentum": 0.9},
    "learned labels": {"factor": 2, "mirror": True, "labels": "learned"},
    "assigned labels": {"factor": 2, "labels": "assigned"},
}


@pytest.mark.parametrize("engine", ["adjoint", "unroll", "fast"])
@pytest.mark.parametrize("name", OPTIONS)
def test_gradient_in_the_stored_images_is_autograds(real: dd.Images, store: Path, name: str, engine: Any) -> None:
    value = method(**OPTIONS[name])
    road = "adjoint" if engine == "fast" else engine
    made = loop(value, real, store, precision="fp64", engine=road, micro_batch=6)
    state, layout = made.start(), value.layout
    problem, _ = made._problem(state, 0)
    answer = made._of_stored(adjoint_fast(problem, 6, compiled=False) if engine == "fast" else made._engine(problem))
    leaf, lr = (t.clone().requires_grad_() for t in (state["images"], problem.lr))
    shown, labels = layout.decode(leaf), problem.labels
    leaves = [leaf, lr]
    if value.labels == "learned":
        leaves.append(state["logits"].clone().requires_grad_())
        labels = layout.repeat(leaves[-1].softmax(1))
    batches = [(step.draw(shown[step.index]), labels[step.index]) for step in problem.steps]
    targets = {t.step: (t.weight, t.theta) for t in problem.targets}
    loss = matching_loss(problem.student.module, problem.theta, targets, batches, lr, value.momentum)
    gradient, of_lr, *of_logits = torch.autograd.grad(loss, leaves)
    torch.testing.assert_close(answer.loss, loss.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(answer.lr, of_lr, rtol=1e-8, atol=1e-14)
    torch.testing.assert_close(answer.images, gradient, rtol=1e-8, atol=1e-12 * float(gradient.abs().max()) + 1e-16)
    new, _ = made.iterate(state)
    torch.testing.assert_close(new["images"], state["images"] - value.lr_img * gradient, rtol=1e-8, atol=1e-10)
    for found in of_logits:
        wanted = state["logits"] - value.lr_label * found
        torch.testing.assert_close(new["logits"], wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("batch_syn", [None, 7])
def test_a_student_step_sees_as_many_pictures_as_without(real: dd.Images, store: Path, batch_syn: int | None) -> None:
    given = {"batch_syn": batch_syn, "student_steps": 8}
    plain, large = (loop(method(**given, **more), real, store) for more in ({}, {"factor": 2, "mirror": True}))
    sizes = [[len(s.index) for s in made._problem(made.start(), 0)[0].steps] for made in (plain, large)]
    assert sizes[0] == ([10] * 8 if batch_syn is None else [3, 7] * 4)
    assert max(sizes[1]) == max(sizes[0])
    problem = large._problem(large.start(), 0)[0]
    assert len(problem.images) == len(problem.labels) == 80
    seen = torch.cat([s.index for s in problem.steps])
    assert len(set(seen.tolist())) == len(seen)  # 80 pictures, none again before all were seen


@pytest.mark.parametrize("init", ["real", "representative", "correct"])
def test_a_start_shows_different_images_of_the_class_made_smaller(real: dd.Images, store: Path, init: Any) -> None:
    images = loop(method(ipc=2, factor=2, init=init), real, store).start()["images"]
    assert images.shape == (20, 1, 8, 8)
    small = F.avg_pool2d(make_transform(real, False).forward(real.train.pixels()), 2)
    found = []
    for row, mosaic in enumerate(images):
        for top, left in ((0, 0), (0, 4), (4, 0), (4, 4)):
            match = (small == mosaic[:, top : top + 4, left : left + 4]).flatten(1).all(1).nonzero().flatten()
            assert row // 2 in real.train.labels[match].tolist()
            found.append(int(match[0]))
    assert len(set(found)) == 80


def test_learned_labels_start_from_the_small_pictures_logits(real: dd.Images, store: Path) -> None:
    made = loop(method(factor=2, labels="learned"), real, store)
    logits = made.start()["logits"]
    assert logits.shape == (10, 10)
    with torch.no_grad():
        rows = made._rows()
        x = made.transform.forward(real.train.pixels(rows))
        each = made.student.logits(made._last(0), x).view(10, 4, 10)
    torch.testing.assert_close(logits, each.mean(1))


def test_what_is_offered_is_what_the_file_gives(real: dd.Images, store: Path, tmp_path: Path) -> None:
    value = method(factor=2, mirror=True, storage="uint8", ema=0.9, candidate_every=1)
    small = dd.distill(real, value, out=tmp_path / "run", store=store)
    last = list(value.distill(real, Run(store=store)))[-1]
    assert last.state["images"].dtype == torch.float32
    kept = Layout(storage="uint8").keep(last.state["images"])
    offered: Any = last.candidates[0].set
    assert torch.equal(offered.stored_images, kept.numbers)
    back = dd.load(tmp_path / "run")
    assert back == small
    assert torch.equal(back.images, small.images)
    assert len(back) == 80
    assert back.nbytes.images == 10 * 64
    report = dd.evaluate(back, real, repeats=1, baselines=())
    assert report.method == "mtt, 80 images of 10 stored (factor 2, mirrored, uint8)"
    assert report.bytes["images"] == 640


def test_a_set_is_a_start_for_its_own_factor(real: dd.Images, store: Path) -> None:
    value = method(factor=2, storage="fp16")
    small = dd.distill(real, value, store=store)
    begun = loop(method(factor=2, init=small), real, store).start()
    assert torch.equal(begun["images"], small.stored_images)
    soft = loop(method(factor=2, init=small, labels="learned"), real, store).start()
    assert soft["logits"].shape == (10, 10)
    text = "`init` must be a set of factor=1, mirror=False.*got one of factor=2, mirror=False. Give `factor=2, mirror"
    with pytest.raises(dd.InputError, match=text):
        dd.distill(real, method(init=small), store=store)


def test_by_name_from_python(real: dd.Images, store: Path) -> None:
    few: dict[str, Any] = {"expert": RECIPE, "iterations": 1, "student_steps": 2, "max_start_epoch": 2}
    small = dd.distill("digits", "mtt", ipc=1, factor=2, storage="uint8", store=store, progress=False, **few)
    assert small.layout == Layout(factor=2, storage="uint8")


MATCHING = ("mtt", "ftd", "ast", "tesla", "datm", "dm", "idm", "ncfm")


@pytest.mark.parametrize("name", MATCHING)
def test_sets_of_matching_are_stored_in_uint8_and_always_say_their_bits(name: str) -> None:
    assert METHODS[name]().layout == Layout(storage=STORAGE) == Layout(storage="uint8")
    for fields in ({}, {"storage": "fp32"}, {"storage": "fp16"}):
        told = METHODS[name](**fields).describe()
        assert told["storage"] == fields.get("storage", "uint8")
        assert not told.keys() & {"factor", "mirror"}


def test_rows_as_published_are_in_float32_and_others_have_the_default() -> None:
    seen = set()
    for name in METHODS:
        for row in rows(name) if kind_of(name) == "images" else ():
            ipc = row.get("ipc", 1 if class_of(name).budget == "ipc" else None)
            fields = preset(name, row["dataset"], ipc, row["tier"]).fields
            wanted = "fp32" if row["tier"] == "paper" and name in MATCHING else None
            assert fields.get("storage") == wanted, (name, row)
            seen.add((name, row["tier"]))
    assert ("mtt", "paper") in seen
    assert METHODS["mtt"](**preset("mtt", "cifar10", 1, "paper").fields).storage == "fp32"
    assert METHODS["mtt"](**preset("mtt", "cifar10", 1, "cpu").fields).storage == "uint8"
    assert preset("mirage", None, None, "cpu").fields.get("storage") in (None, "once", "repeated")


def test_a_run_in_other_bits_is_another_run(real: dd.Images, store: Path, tmp_path: Path) -> None:
    dd.distill(real, method(), out=tmp_path / "run", store=store, progress=False)
    with pytest.raises(dd.InputError, match=r"holds another run \(method.storage: 'uint8' there, 'fp32' asked for\)"):
        dd.distill(real, method(storage="fp32"), out=tmp_path / "run", store=store, progress=False)
    assert dd.load(tmp_path / "run").method["storage"] == "uint8"
    path = tmp_path / "run" / "run.json"
    assert json.loads(path.read_text())["request"]["method"]["storage"] == "uint8"


@pytest.mark.parametrize("fields", [{}, {"canvas": 2}, {"expert": dataclasses.replace(RECIPE, whiten=True)}], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_the_default_is_the_set_in_float32_rounded(
    fields: dict[str, Any], precision: Any, real: dd.Images, store: Path
) -> None:
    small, wide = (
        dd.distill(real, method(**fields, **more), store=store, precision=precision, progress=False)
        for more in ({}, {"storage": "fp32"})
    )
    assert wide.layout.plain
    assert small == dataclasses.replace(wide.pack("uint8"), method=small.method)
    assert small.nbytes.images == wide.nbytes.images // 4


@pytest.mark.parametrize("name", ["random", "class_mean", "herding", "sre2l"])
def test_a_plain_layout_is_not_told(name: str) -> None:
    told = METHODS[name]().describe()
    assert not told.keys() & {"mirror", "storage"}
    assert ("factor" in told) == (name == "sre2l")  # there of patches
    assert METHODS[name](storage="fp16" if name != "sre2l" else "uint8").describe().keys() - told.keys() == {"storage"}


# Any two options

ONE: dict[str, dict[str, Any]] = {
    "factor": {"factor": 2},
    "mirror": {"mirror": True},
    "storage": {"storage": "uint8"},
    "soft labels": {"labels": "learned"},
    "canvas": {"canvas": 2},
    "whitening": {"expert": dataclasses.replace(RECIPE, whiten=True)},
}
REFUSED = {
    ("factor", "canvas"): "`canvas` must be 1 with `factor` or `mirror`.*Use `canvas=1`, or leave `factor` and",
    ("mirror", "canvas"): "`canvas` must be 1 with `factor` or `mirror`.*Use `canvas=1`, or leave `factor` and",
    ("soft labels", "canvas"): "`labels` must be `hard` with a canvas",
    ("canvas", "whitening"): "`canvas` must be 1 with a whitened buffer",
}


@pytest.mark.parametrize("pair", list(itertools.combinations(ONE, 2)), ids="+".join)
def test_any_two_options_work_together_or_are_refused(
    pair: tuple[str, str], real: dd.Images, store: Path, tmp_path: Path
) -> None:
    fields = {**ONE[pair[0]], **ONE[pair[1]]}
    if pair in REFUSED:
        with pytest.raises(dd.InputError, match=REFUSED[pair]):
            method(**fields)
        return
    small = dd.distill(real, method(**fields), store=store)
    path = small.save(tmp_path / "s.safetensors")
    back = dd.load(path)
    assert back == small
    assert torch.equal(back.images, small.images)
    assert small.nbytes.total == path.stat().st_size
    report = dd.evaluate(path, real, repeats=1, steps=1, baselines=())
    assert len(report.rows[0].values) == 1


@pytest.mark.parametrize("fields", [{}, {"factor": 2, "mirror": True}, {"storage": "uint8", "labels": "learned"}])
def test_an_estimate_counts_stored_bytes_and_a_students_pictures(
    fields: dict[str, Any], real: dd.Images, store: Path
) -> None:
    value = method(**fields)
    told = dd.estimate(real, value)
    size = dd.distill(real, value, store=store).nbytes
    assert told.set_bytes == size.images + size.labels
    plain = dd.estimate(real, method())
    assert told.stages["matching"] == pytest.approx(plain.stages["matching"], rel=0.01)
    whole, large = (
        dd.estimate(real, method(ipc=100, batch_syn=10, **{"init": "noise", **more, "labels": "hard"})).peak_bytes
        for more in ({}, fields)
    )
    assert (large - whole > 4000 * 64 * (value.layout.copies - 1)) == (value.layout.copies > 1)


# Other methods


@pytest.mark.parametrize("name", ["random", "herding"])
def test_baselines_show_as_many_real_images_as_there_are_pictures(name: str, store: Path) -> None:
    data, fields = pictures(), METHODS[name](ipc=8).__dataclass_fields__
    assert {"factor", "mirror", "storage"} <= fields.keys()
    few: dict[str, Any] = {"ipc": 2, "train": dd.TrainRecipe(model="mlp", steps=3)}
    if name == "herding":
        few["teacher"] = dd.TeacherRecipe(model="convnet(width=4, depth=1, norm=batch)", epochs=1)
    small = dd.distill(data, METHODS[name](**few, factor=2, storage="uint8"), store=store, progress=False)
    whole = dd.distill(data, METHODS[name](**{**few, "ipc": 8}), store=store, progress=False)
    assert small.counts == (2, 2, 2)
    told = dd.estimate(data, METHODS[name](**few, factor=2, storage="uint8")).set_bytes
    assert told == small.nbytes.images + small.nbytes.labels
    wanted = Layout(factor=2, storage="uint8").keep(Layout(factor=2).mosaic(whole.images))
    assert torch.equal(small.stored_images, wanted.numbers)


EACH: dict[str, dict[str, Any]] = {
    "factor": {"factor": 2},
    "mirror": {"mirror": True},
    "storage": {"storage": "fp16"},
    "whitening": {"whiten": True},
    "numbers by class": {"ipc": {"0": 2, "1": 1, "2": 3}},
}


@pytest.mark.parametrize("pair", list(itertools.combinations(EACH, 2)), ids="+".join)
def test_any_two_options_of_real_images_work_together(pair: tuple[str, str], tmp_path: Path) -> None:
    fields = {"ipc": 2, **EACH[pair[0]], **EACH[pair[1]], "train": dd.TrainRecipe(model="mlp", steps=1)}
    small = dd.distill(pictures(), METHODS["random"](**fields), progress=False)
    path = small.save(tmp_path / "s.safetensors")
    assert dd.load(path) == small
    assert small.nbytes.total == path.stat().st_size
    assert len(dd.evaluate(path, pictures(), repeats=1, steps=1).rows) == (2 if pair[0] == "whitening" else 3)


def test_the_command_line_has_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", "digits", "random", "--ipc", "1", "--factor", "2", "--mirror", "--storage", "uint8"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "80 images of 10 stored (factor 2, mirrored, uint8) in" in capsys.readouterr().out
    assert dd.load(tmp_path / "run").layout == Layout(factor=2, mirror=True, storage="uint8")
    assert main(["distill", "digits", "random", "--factor", "3", "--out", str(tmp_path / "other")]) != 0
    assert "`factor` must be a divisor of 8" in capsys.readouterr().err


@pytest.mark.parametrize("value", [METHODS["random"], METHODS["class_mean"]])
def test_promises_hold_with_a_layout(value: Any) -> None:
    more = {"ipc": 2, "factor": 2} if value is METHODS["random"] else {}
    made = value(**more, mirror=True, storage="uint8", train=dd.TrainRecipe(model="mlp", steps=3))
    check_method(made, random=value is METHODS["random"])


def test_rounded_pixels_of_recovery_stay_as_they_are(store: Path) -> None:
    teacher = dd.TeacherRecipe(model="convnet(width=4, depth=1, norm=batch)", epochs=1)
    few: dict[str, Any] = {"ipc": 2, "committee": (teacher.model,), "teacher": teacher, "iterations": 1}
    few |= {"labels": "static", "train": dd.TrainRecipe(model="mlp", steps=3)}
    plain, small = (
        dd.distill(pictures(), METHODS["sre2l"](**few, **more), store=store, progress=False)
        for more in ({}, {"storage": "uint8", "mirror": True})
    )
    assert torch.equal(small.stored.values, plain.pictures())
    assert len(small) == 2 * len(plain)
    assert torch.equal(small.stored_labels, plain.labels)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: METHODS["sre2l"](mirror=True), "`mirror` must be False with stored labels.*Leave `mirror` out, or"),
        (lambda: METHODS["sre2l"](storage="fp16"), "`storage` must be `uint8` with stored labels.*Leave `storage` out"),
        (lambda: METHODS["mtt"](storage="int4"), "`storage` must be `fp32` or `fp16` or `uint8`; got 'int4'"),
        (lambda: METHODS["random"](factor=0), "`factor` must be a whole number of at least 1; got 0"),
    ],
)
def test_refusals_at_construction(make: Any, text: str) -> None:
    with pytest.raises(dd.InputError, match=text):
        make()


@pytest.mark.parametrize("name", ["mtt", "random", "class_mean", "herding", "rded", "infer"])
def test_classes_are_not_mixed_which_is_said_before_a_set_is_made(name: str) -> None:
    """A set was made that nobody could train on."""
    labelled = {"labels": "hard", "train": {"loss": "ce", "mix": "cutmix", "augment": ""}}
    own = labelled if name in ("rded", "infer") else {"train": {"mix": "cutmix"}}
    with pytest.raises(dd.InputError, match=r"`train.mix` must be `none` with hard labels.*leave `train.mix` out"):
        replace_fields(METHODS[name](), own)


def test_one_and_its_float_are_one_request(tmp_path: Path) -> None:
    """A folder begun with 1 was of another run than with 1.0; the shell says 1.0."""
    few: dict[str, Any] = {"ipc": 1, "iterations": 1, "batch_real": 2, "model": "convnet(width=4,depth=1)"}
    one, same = (
        dd.distill("digits", "dm", **few, lr_img=lr, train={"steps": 2, "lr": lr}, out=tmp_path / "a", progress=False)
        for lr in (1, 1.0)
    )
    assert one == same
    assert dd.DM(lr_img=10**30).lr_img == 1e30  # and no OverflowError in the loop


def test_stored_labels_are_left_for_a_mirror_as_the_message_says() -> None:
    """Its way out was refused for its loss."""
    with pytest.raises(dd.InputError, match="`mirror` must be False") as caught:
        METHODS["rded"](mirror=True)
    assert str(caught.value).endswith('or use labels="static", train={"loss": "ce"}.')
    made = replace_fields(METHODS["rded"](), {"mirror": True, "labels": "static", "train": {"loss": "ce"}})
    assert made.layout.mirror  # type: ignore[attr-defined]


def test_refusals_before_anything_is_trained(real: dd.Images, tmp_path: Path) -> None:
    for value in (method(factor=3), METHODS["random"](ipc=1, factor=3)):
        with pytest.raises(dd.InputError, match=r"`factor` must be a divisor of 8 .*Give `factor=2`"):
            dd.distill(real, value, store=tmp_path)
    for value in (method(ipc=100, factor=2), METHODS["random"](ipc=100, factor=2)):
        with pytest.raises(dd.InputError, match=r"`ipc` must be at most \d+ with factor=2, whose stored images show 4"):
            dd.distill(real, value, store=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "field"), [("infer", "storage"), ("mirage", "mirror"), ("class_mean", "factor")])
def test_methods_whose_sets_have_a_form_of_their_own_say_which_have_the_option(name: str, field: str) -> None:
    with pytest.raises(dd.InputError, match=rf"`{field}` must be left out for {name}.* that have it: mtt, .*random"):
        replace_fields(METHODS[name](), {field: 2})
