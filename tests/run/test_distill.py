"""The door, end to end on tiny data: same bytes, resume, custom Datasets, refusals before any training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_pil_image

import dd
from dd.base.files import read_json, read_jsonl
from dd.base.seeding import child_seed
from dd.cli.main import main
from dd.data import Source
from dd.evaluation.readers import ReaderLearner
from dd.evaluation.selection import REPEATS, Selector
from dd.methods import METHODS, Candidate, Step
from dd.methods.presets import rows
from dd.run.resolve import MEASURED, Opened, announce_preset, opened, resolve_method
from dd.testing.made import graphs

TINY = {"model": "convnet(width=4)", "augment": "crop_flip", "augment_mode": "all", "batch_size": 16, "lr": 0.05}


def method(**fields: Any) -> dd.TrajectoryMatching:
    recipe = dd.ExpertRecipe(**TINY, experts=2, snapshots=4, snapshot_every=2, snapshot_unit="step")
    base: dict[str, Any] = {
        "ipc": 2,
        "expert": recipe,
        "iterations": 6,
        "student_steps": 3,
        "expert_epochs": 1,
        "max_start_epoch": 3,
        "pixel_optimizer": "adam",
        "lr_img": 0.05,
        "train": dd.TrainRecipe(steps=5),
    }
    return dd.TrajectoryMatching(**{**base, **fields})


class Odd(Dataset[tuple[torch.Tensor, int]]):
    """A user's own Dataset of odd size: 3×20×28, 4 classes, 37 images a class."""

    def __init__(self, per_class: int = 37, classes: int = 4, size: tuple[int, int] = (20, 28)) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(classes).repeat(per_class).tolist()
        base = torch.rand(classes, 3, *size, generator=generator)
        noise = torch.rand(len(self.labels), 3, *size, generator=generator.manual_seed(per_class))
        self.images = 0.7 * base[self.labels] + 0.3 * noise

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], self.labels[index]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def run(out: Path | None, store: Path, value: dd.TrajectoryMatching, **options: Any) -> dd.SyntheticImages:
    return dd.distill("digits", value, out=out, store=store, progress=False, device="cpu", **options)


def test_a_preset_is_announced_where_it_sets_something(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    """The row of a baseline is its own defaults: it was run in every record, and there is nothing to say of it."""
    for name in ("random", "class_mean"):
        dd.distill(Odd(), name, ipc=1)
        assert "preset" not in capsys.readouterr().err
    dd.distill(Odd(), "rded", ipc=1, store=store, committee=["convnet(norm=batch, width=4)"], label_epochs=1)
    assert "rded on custom: preset `cpu` (this library" in capsys.readouterr().err


def test_users_own_dataset_of_odd_size_goes_through(tmp_path: Path) -> None:
    small = dd.distill(Odd(), method(ipc=1), store=tmp_path, progress=False)
    assert small.images.shape == (4, 3, 20, 28)
    report = dd.evaluate(small, Odd(per_class=5), repeats=2, progress=False)
    assert report.rows[0].set == "mtt"
    assert len(report.rows[0].values) == 2
    assert any("no random row" in note for note in report.notes)  # a bare Dataset is all test data
    full = dd.Images(train=Odd(), test=Odd(per_class=5), name="odd")
    report = dd.evaluate(small, full, repeats=2, baselines=("random", "class_mean"), progress=False)
    assert [row.set for row in report.rows] == ["mtt", "random", "class_mean"]
    assert all(row.steps == 5 for row in report.rows)


def test_image_folder_goes_through(tmp_path: Path) -> None:
    pixels = torch.rand(4, 6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    for split, part in (("train", pixels[:, :4]), ("test", pixels[:, 4:])):
        for k, images in enumerate(part):
            folder = tmp_path / "pets" / split / f"class{k}"
            folder.mkdir(parents=True)
            for i, image in enumerate(images):
                to_pil_image(image).save(folder / f"{i}.png")
    name = f"imagefolder:{tmp_path / 'pets'}"
    small = dd.distill(name, method(ipc=1), store=tmp_path / "store", progress=False)
    assert small.classes == ("class0", "class1", "class2", "class3")
    report = dd.evaluate(small, name, repeats=2, progress=False)
    assert [row.set for row in report.rows] == ["mtt", "random"]


def test_pictures_of_many_sizes_are_judged_at_the_size_of_the_set(tmp_path: Path) -> None:
    pixels = torch.rand(2, 6, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    for split, part in (("train", pixels[:, :4]), ("test", pixels[:, 4:])):
        for k, images in enumerate(part):
            folder = tmp_path / "pets" / split / f"class{k}"
            folder.mkdir(parents=True)
            for i, image in enumerate(images):
                to_pil_image(image[:, : 10 + i]).save(folder / f"{i}.png")
    name = f"imagefolder:{tmp_path / 'pets'}"
    small = dd.distill(name, "random", ipc=1, size=8, progress=False)
    kwargs: dict[str, Any] = {"models": "mlp", "steps": 2, "repeats": 1, "progress": False}
    plain, sized = dd.evaluate(small, name, **kwargs), dd.evaluate(small, name, size=8, **kwargs)
    assert [row.values for row in plain.rows] == [row.values for row in sized.rows]
    assert dd.neighbours(small, name) is not None
    with pytest.raises(dd.InputError, match="Give `size=8`"):
        dd.evaluate(small, name, size=9, **kwargs)


def test_whitened_set_is_saved_without_its_matrix_and_evaluated_all_the_same(store: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(method().expert, whiten=True)
    small = run(tmp_path / "a", store, method(expert=recipe))
    kwargs: dict[str, Any] = {"repeats": 2, "seed": 1, "progress": False}
    a, b = dd.evaluate(small, "digits", **kwargs), dd.evaluate(tmp_path / "a", "digits", **kwargs)
    assert [row.values for row in a.rows] == [row.values for row in b.rows]
    back = dd.load(tmp_path / "a")
    with pytest.raises(dd.InputError, match="was saved without its matrix"):
        back.pixels()
    pixels = back.attach(dd.load_images("digits").train).pixels()
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    small.save(tmp_path / "whole.safetensors", whitening_matrix=True)
    torch.testing.assert_close(dd.load(tmp_path / "whole.safetensors").pixels(), pixels)


def test_result_is_a_dataset_that_a_default_loader_collates(store: Path) -> None:
    small = run(None, store, method())
    images, labels = next(iter(DataLoader(small, batch_size=4)))
    assert images.shape == (4, 1, 8, 8)
    assert labels.dtype == torch.int64
    assert small.labels.tolist() == [k for k in range(10) for _ in range(2)]


def test_same_seed_same_bytes_other_seed_other_images(store: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, store, method(), seed=seed)
    a, b, c = ((tmp_path / n / "synthetic.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c
    assert (tmp_path / "a" / "log.jsonl").read_bytes() == (tmp_path / "b" / "log.jsonl").read_bytes()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ema": 0.9, "candidate_every": 2},
        {"pixel_optimizer": "sgd", "lr_img": 100.0, "candidate_every": 2, "momentum": 0.5},
        {"ema": 0.9, "candidate_every": 1, "sieve": 2},
    ],
    ids=["adam", "ema and selection", "sgd and momentum", "sieve"],
)
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_interrupted_run_ends_with_the_same_bytes(
    store: Path, tmp_path: Path, fields: dict[str, Any], stop: int
) -> None:
    fields = dict(fields)
    told = {"sieve": fields.pop("sieve")} if "sieve" in fields else {}
    run(tmp_path / "whole", store, method(**fields), **told)

    def interrupt(done: int, total: int, text: str) -> None:
        if "loss" in text and done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dd.distill("digits", method(**fields), out=tmp_path / "cut", store=store, progress=interrupt, **told)
    assert not (tmp_path / "cut" / "synthetic.safetensors").exists()
    run(tmp_path / "cut", store, method(**fields), **told)
    for name in ("synthetic.safetensors", "log.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "cut" / "checkpoint.safetensors").exists()


def test_killed_run_goes_on_from_its_last_checkpoint(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = method(iterations=40, student_steps=1)
    run(tmp_path / "whole", store, value)
    keep = dd.run.folder.RunFolder.checkpoint

    def killed(self: Any, step: Step, *rest: Any) -> None:
        if step.iteration <= 30:  # later checkpoints never reach the disk
            keep(self, step, *rest)
        if step.iteration == 37:
            raise MemoryError("killed")

    monkeypatch.setattr(dd.run.folder.RunFolder, "checkpoint", killed)

    def die(done: int, total: int, text: str) -> None:
        if "loss" in text and done == 37:
            raise MemoryError

    with pytest.raises(MemoryError):
        dd.distill("digits", value, out=tmp_path / "cut", store=store, progress=die)
    monkeypatch.undo()
    run(tmp_path / "cut", store, value)
    for name in ("synthetic.safetensors", "log.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_finished_run_is_read_not_repeated(store: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "a", store, method())
    again = dd.distill("digits", method(), out=tmp_path / "a", store=tmp_path / "no store", progress=False)
    assert torch.equal(first.images, again.images)
    assert not (tmp_path / "no store").exists()
    with pytest.raises(dd.InputError, match=r"holds another run .*method.iterations: 6 there, 7 asked for"):
        run(tmp_path / "a", store, method(iterations=7))
    run(tmp_path / "a", store, method(iterations=7), resume=False)
    assert len(read_jsonl(tmp_path / "a" / "log.jsonl")) == 7
    assert read_json(tmp_path / "a" / "run.json")["finished"]


def test_saved_set_needs_no_flags(store: Path, tmp_path: Path) -> None:
    small = run(tmp_path / "a", store, method())
    back = dd.load(tmp_path / "a")
    assert back.recipe == small.recipe
    assert back.recipe.augment == "crop_flip"
    kwargs: dict[str, Any] = {"repeats": 2, "baselines": (), "seed": 3, "progress": False}
    a = dd.evaluate(tmp_path / "a", "digits", **kwargs)
    b = dd.evaluate(small, "digits", **kwargs)
    assert a.rows[0].values == b.rows[0].values
    net = dd.train(tmp_path / "a", seed=1)
    assert not net.training
    with torch.no_grad():
        assert net(small.images).shape == (20, 10)


class Answers(torch.nn.Module):
    """A linear network whose logits are handed on as `how` says."""

    def __init__(self, how: Any = lambda logits: logits, outputs: int = 10, inputs: int = 64) -> None:
        super().__init__()
        self.norm, self.last, self.how = torch.nn.BatchNorm1d(inputs), torch.nn.Linear(inputs, outputs), how

    def forward(self, x: torch.Tensor) -> Any:
        logits = self.last(self.norm(x.flatten(1)))
        return self.how(logits)


def test_an_own_module_is_trained_in_place_or_refused_before(store: Path, tmp_path: Path) -> None:
    small = run(tmp_path / "a", store, method())
    frozen = Answers().requires_grad_(False)
    aux = Answers()
    aux.how = lambda logits: (logits, logits) if aux.training else logits  # as Inception
    for net, text in (
        (Answers(outputs=7), r"logits \[2, 10\] for two pictures; got shape \[2, 7\] from Answers. Give it 10 outputs"),
        (Answers(lambda z: {"out": z}), "got a dict from Answers. Give it 10 outputs, and wrap it so that it returns"),
        (Answers(lambda z: (z, z)), "got a tuple"),
        (aux, r"logits \[2, 10\] for two pictures in train mode; got a tuple"),
        (Answers(inputs=99), r"takes pictures \[1, 8, 8\]; got Answers: .*(Run|Value)"),
        (frozen, "weights to train; got Answers, all frozen. Call `.requires_grad_"),
    ):
        before, state = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
        with pytest.raises(dd.InputError, match=text):
            dd.train(small, net, steps=2)
        assert torch.equal(before, torch.get_rng_state())
        assert net.training
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    for net in (Answers(), frozen.requires_grad_(True)):  # the ways out
        assert dd.train(small, net, steps=2) is net
    for model in (lambda *_: Answers().requires_grad_(False), lambda *_: Answers().to("meta")):
        with pytest.raises(dd.InputError, match="network with weights"):
            dd.train(small, model, steps=2)
    with pytest.raises(dd.InputError, match=r"whose .* is on the device meta. Make it on a real device"):
        dd.train(small, Answers().to("meta"), steps=2)
    wrapped = Answers(lambda z: {"out": z})
    wrapped.how = lambda z: {"out": z}["out"]
    dd.train(small, wrapped, steps=2)
    with pytest.raises(dd.InputError, match=r"`model` must be a name .* or a function .*; got an Answers"):
        dd.evaluate(small, "digits", models=[Answers()])  # type: ignore[list-item]


def test_a_set_for_an_own_network_is_made_and_says_that_the_network_is_given_again(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = dd.Model(lambda channels, classes, size: Answers(outputs=classes), "mynet")
    expert = dataclasses.replace(method().expert, model=own)
    made = run(tmp_path / "own", store, method(expert=expert, ema=0.9))  # two candidates, which are scored
    assert made.recipe.model == "mynet"
    evaluated = {"repeats": 2, "steps": 2, "baselines": "random"}
    again = r"given where .* network of your own; .*'mynet'.* Give it again, `{}dd.Model\(factory, name='mynet'\)"
    for small in (made, tmp_path / "own"):
        for models in (None, [None, "mlp"]):
            with pytest.raises(dd.InputError, match="`models` must be " + again.format(r"models=\[")):
                dd.evaluate(small, "digits", models=models, **evaluated)  # type: ignore[arg-type]
        for measure in (lambda s: dd.train(s, steps=2), lambda s: dd.calibration(s, "digits", steps=2, repeats=2)):
            with pytest.raises(dd.InputError, match="`model` must be " + again.format("model=")):
                measure(small)
    dd.train(made, own, steps=2)  # the ways out
    dd.calibration(made, "digits", model=own, steps=2, repeats=2)
    assert dd.evaluate(made, "digits", models=own, **evaluated).rows[0].model == "mynet"  # type: ignore[arg-type]
    assert main(["evaluate", str(tmp_path / "own"), "digits", "--repeats", "2", "--steps", "2"]) == 2
    assert "in a shell `--models convnet`" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "own"), "digits", "--repeats", "2", "--steps", "2", "--models", "mlp"]) == 0


def test_selection_uses_validation_images_only(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dd.load_images("digits")
    assert real.test is not None
    seen: list[str] = []
    original = dd.evaluation.NetworkPredictor.score

    def spy(self: Any, split: Any) -> float:
        seen.append(split.fingerprint)
        return original(self, split)

    monkeypatch.setattr(dd.evaluation.NetworkPredictor, "score", spy)
    small = run(None, store, method(ema=0.9, candidate_every=3))
    assert real.val is not None
    assert set(seen) == {real.val.fingerprint}
    assert len(seen) == 2 * 2 * 2  # two points, two sets, two networks
    assert "best of 4 candidates on the validation split" in small.provenance["selection"]
    seen.clear()
    paper = run(None, store, method(ema=0.9, candidate_every=3), protocol="paper")
    assert set(seen) == {real.test.fingerprint}
    assert "TEST set" in paper.provenance["selection"]


def test_a_sieve_trains_networks_on_what_ridge_regression_finds_best(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dd.load_images("digits")
    assert real.val is not None
    offered: list[Any] = []
    trained: list[Any] = []
    score, read = Selector._score, Selector._read
    monkeypatch.setattr(Selector, "_score", lambda self, small: trained.append(small) or score(self, small))
    monkeypatch.setattr(Selector, "_read", lambda self, small: offered.append(small) or read(self, small))
    small = run(tmp_path / "a", store, method(ema=0.9, candidate_every=1), sieve=2)
    assert len(offered) == 12  # six iterations, two sets
    learner = ReaderLearner(device=torch.device("cpu"))
    seeds = [child_seed(0, "select", repeat) for repeat in range(REPEATS)]
    found = [sum(learner.fit(one, seed).score(real.val) for seed in seeds) / REPEATS for one in offered]
    best = sorted(range(12), key=lambda i: -found[i])[:2]  # of equal ones the first
    assert [id(one) for one in trained] == [id(offered[i]) for i in sorted(best)]
    assert (
        "best of 2 candidates on the validation split, which ridge regression there chose of 12: "
        in (small.provenance["selection"])
    )
    told = read_json(tmp_path / "a" / "run.json")
    assert [entry[2] for entry in told["selection"]["sieved"]] == pytest.approx(found)
    assert max(entry[2] for entry in told["selection"]["scores"]) == told["selection"]["score"]
    other = dataclasses.replace(method(), name="mine")  # of whatever name
    with pytest.raises(dd.InputError, match=r"`sieve` must be a method that offers several sets.*got `mine`"):
        run(tmp_path / "b", store, other, sieve=3)
    with pytest.raises(dd.InputError, match="sieve"):  # the run is another one
        run(tmp_path / "a", store, method(ema=0.9, candidate_every=1), sieve=3)


@pytest.mark.parametrize(
    ("sieve", "name", "fields", "expected"),
    [
        (0, "mtt", {"candidate_every": 1}, r"`sieve` must be .* at least 1.*; got 0"),
        (True, "mtt", {"candidate_every": 1}, r"`sieve` must be a whole number or None; got True"),
        (1.5, "mtt", {"candidate_every": 1}, r"`sieve` must be a whole number or None; got 1.5"),
        (2, "mtt", {"candidate_every": 0}, r"its `candidate_every` is above 0; got `mtt`. Leave it out, or give"),
        (2, "rded", {}, r"its `candidate_every` is above 0; got `rded`. Leave it out"),
    ],
)
def test_a_sieve_that_sieves_nothing_is_refused_before_any_work(
    store: Path, tmp_path: Path, sieve: Any, name: str, fields: dict[str, Any], expected: str
) -> None:
    given = {"ipc": 1, "store": store, "out": tmp_path / "a", "progress": False, **fields}
    with pytest.raises(dd.InputError, match=expected):
        dd.distill("digits", name, sieve=sieve, **given)
    assert not (tmp_path / "a").exists()


def test_products_of_an_iteration_are_tf32_where_that_is_asked_for(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dd.load_images("digits")
    run(None, store, method())  # experts are there
    seen = list[str]()
    loop = dd.methods.trajectory.loop
    solve = loop.solve
    monkeypatch.setattr(
        loop, "solve", lambda *given: seen.append(torch.backends.cuda.matmul.fp32_precision) or solve(*given)
    )
    asked = dd.Run(precision="tf32", device=torch.device("cuda"), store=store)
    object.__setattr__(asked, "device", torch.device("cpu"))  # no GPU is here: the setting is all that can be seen
    next(iter(method().distill(real, asked)))
    assert seen == ["tf32"]
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("mtt", "tf32", r"`precision` must be `fp32` or `bf16` on cpu; got 'tf32'. It is of CUDA alone."),
        ("rded", "bf16", r"must be left out but for methods that match .*; got 'bf16' for `rded`"),
        ("random", "fp64", r"must be left out but for methods that match .*; got 'fp64' for `random`"),
    ],
)
def test_a_precision_that_would_do_nothing_is_refused(
    store: Path, tmp_path: Path, name: str, precision: Any, expected: str
) -> None:
    with pytest.raises(dd.InputError, match=expected):
        dd.distill("digits", name, ipc=1, precision=precision, store=store, out=tmp_path / "a", device="cpu")
    assert not (tmp_path / "a").exists()


def test_protocol_paper_uses_another_store_and_all_of_train(store: Path) -> None:
    clean, paper = dd.load_images("digits"), dd.load_images("digits").all_train()
    assert len(paper.train) == len(clean.train) + len(clean.val or ())
    recipe = method().expert
    assert recipe.key(clean.fingerprint) != recipe.key(paper.fingerprint)


def test_users_method_value(store: Path) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class FirstImages:
        kind: ClassVar[str] = "images"
        budget: ClassVar[str] = ""
        name: str = "first"

        def distill(self, real: dd.Images, run: dd.Run, state: Any = None) -> Iterator[Step]:
            base = dd.methods.RandomReal(ipc=1, train=dd.TrainRecipe(model="convnet(width=4)", steps=2))
            step = next(iter(base.distill(real, run)))
            yield dataclasses.replace(step, candidates=(Candidate("last", 1, step.candidates[0].set),))

        def describe(self) -> dict[str, Any]:
            return {"name": self.name}

    small = dd.distill("digits", FirstImages(), progress=False)
    assert len(small) == 10


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: dd.distill("digits", "mtd"), r"unknown method 'mtd'; known: .*ftd.*mtt"),
        (lambda: dd.distill("digit", "mtt"), r"digits"),
        (lambda: dd.distill("digits", method(), ipc=3), r"fields \(ipc\) go with a method's name"),
        (lambda: dd.distill("digits", "mtt", itertions=3), r"itertions.*iterations"),
        (lambda: dd.distill("digits", "mtt", protocol="dirty"), r"`protocol` must be `clean` or `paper`"),
        (lambda: dd.distill("digits", "mtt", preset="paper"), r"cifar10"),
        (lambda: dd.distill("digits", "mtt", ipc=5000), r"`ipc` must be .*5000"),
        (lambda: dd.distill("digits", "mtt", ipc=0), r"ipc"),
        (lambda: dd.distill("digits", "mtt", device="tpu9"), r"`device` must be a torch device"),
        (lambda: method(max_start_epoch=5), r"max_start_epoch.* must be at most 4.*buffer's 4 snapshots"),
        (lambda: method(lr_img=float("nan")), r"`lr_img` must be a finite number"),
        (lambda: method(ema=1.5), r"`ema` must be in \[0, 1\]"),
    ],
)
def test_refusals_come_before_any_training(
    call: Any, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    with pytest.raises(dd.InputError, match=text):
        call()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_evaluate_refuses_what_does_not_fit(store: Path) -> None:
    small = run(None, store, method(ipc=1))
    with pytest.raises(dd.InputError, match=r"of 10 classes, like the set.*got 4"):
        dd.evaluate(small, Odd(), progress=False)
    with pytest.raises(dd.InputError, match=r"unknown baseline 'radnom'"):
        dd.evaluate(small, "digits", baselines=("radnom",), progress=False)
    with pytest.raises(dd.InputError, match=r"`repeats` must be a whole number of at least 1"):
        dd.evaluate(small, "digits", repeats=0, progress=False)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: dd.distill("digits", "random", ipc=1, progress=False),
            "'random', 10 images, 10 classes, 1 a class, 1x8x8, ",
        ),
        (
            lambda: dd.distill("digits-graphs", "mirage", patterns="single", depth=1, progress=False),
            "'mirage', 178 patterns, 29 trees of depth 1, 10 classes, 12 to 25 a class, ",
        ),
        (lambda: dd.load_graphs("digits-graphs"), "'digits-graphs', 10 classes, 125 to 131 a class, 1292 train, "),
        (lambda: dd.load_graphs("digits-graphs").train, "1,292 graphs, "),
    ],
)
def test_a_set_at_the_prompt_is_one_line(make: Callable[[], object], text: str) -> None:
    made = make()
    assert repr(made).startswith(f"{type(made).__name__}({text}")
    assert len(repr(made)) < 150
    assert "\n" not in repr(made)


def test_one_name_alone_is_a_list_of_one() -> None:
    small = dd.distill("digits", "random", ipc=1, progress=False)
    options: dict[str, Any] = {"repeats": 1, "steps": 2, "models": "mlp", "progress": False}
    alone, listed = (dd.evaluate(small, "digits", baselines=b, **options) for b in ("random", ["random"]))
    assert [(row.set, row.mean) for row in alone.rows] == [(row.set, row.mean) for row in listed.rows]
    calls: list[Callable[[], object]] = [
        lambda: dd.evaluate(small, "digits", baselines="radnom"),
        lambda: dd.benchmark("digits", "mtt", ipc=1, baselines="radnom"),
        lambda: dd.benchmark("digits-graphs", "mirage", baselines="radnom"),
        lambda: dd.continual(small, "digits", baselines="radnom"),
        lambda: dd.rank_architectures(small, "digits", baselines="radnom"),
    ]
    for call in calls:
        with pytest.raises(dd.InputError, match=r"unknown baseline .*'radnom'"):
            call()
    with pytest.raises(dd.InputError, match="`models` must be at least two networks; got 1"):
        dd.rank_architectures(small, "digits", models="mlp")
    with pytest.raises(dd.InputError, match=r"`eps` must be in \[0, 1\]"):
        dd.adversarial(small, "digits", eps=8)  # type: ignore[arg-type]


def test_estimate_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    guess = dd.estimate("digits", "ftd", ipc=1)
    assert guess.seconds > 0
    assert guess.disk_bytes > 0
    assert "GFLOP/s" in str(guess)
    assert not list(tmp_path.iterdir())


def test_verify_names_the_damaged_file(store: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", store, method())
    assert "every checksum matches" in dd.verify(tmp_path / "a")
    path = tmp_path / "a" / "synthetic.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(dd.DamagedError, match=r"synthetic.safetensors do not match their checksum"):
        dd.verify(tmp_path / "a")
    path.write_bytes(bytes(data[:100]))
    with pytest.raises(dd.DamagedError, match="truncated or foreign"):
        dd.load(path)
    folder = next(p for p in store.iterdir() if p.is_dir())
    assert "2 expert(s), every checksum matches" in dd.verify(folder)


def test_a_run_says_in_which_fields_it_is_not_that_of_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    """The row's accuracy, and that a record shows it, are then not said of this run."""
    for changed in ({}, {"iterations": 3, "lr_img": 1.0}):
        run = opened("digits", "mtt", Source(), "clean", "cpu", torch.device("cpu"), {"ipc": 1, **changed})
        announce_preset(run, torch.device("cpu"), None)
        told = capsys.readouterr().err.splitlines()[0].partition("; ")[0]  # before what it costs
        assert told.startswith("mtt on digits: preset `cpu` (")
        assert told.endswith("), but for `iterations`, `lr_img`" if changed else ")")
        assert ("94.8" in told) != bool(changed)
        assert ("never run here in full" in told) == bool(changed)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "), images in float32"),
        ({"storage": "uint8"}, "), but for `storage`"),
        ({"lr_img": 1.0}, "), but for `lr_img`, images in float32"),
    ],
)
def test_a_published_row_says_that_its_images_are_in_float32(
    asked: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu = torch.device("cpu")
    value, row = resolve_method("mtt", "cifar10", "paper", cpu, {"ipc": 1, **asked})
    announce_preset(Opened(dd.load_images("digits"), value, row), cpu, None)
    assert f"{told}; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "rule", "told"),
    [
        ("NCI1", "random", ", on split 0 (random): published numbers are of split='published' (`--split published`); "),
        ("NCI1", "published", ""),
        ("BBBP", "scaffold", ""),  # which is the published one
        ("BBBP", "random", ", on split 0 (random): published numbers are of split='published' (`--split published`); "),
    ],
)
def test_a_published_row_of_graphs_says_that_its_split_is_another(
    data: str, rule: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu, real = torch.device("cpu"), dataclasses.replace(graphs(), name=data, rule=rule)
    for tier, text in (("paper", told), ("cpu", "")):
        announce_preset(Opened(real, *resolve_method("mirage", data, tier, cpu, {})), cpu, None)
        said = capsys.readouterr().err
        assert ("published numbers" in said) == bool(text)
        assert text in said


def test_a_row_that_says_an_accuracy_begins_so_that_a_changed_one_does_not() -> None:
    sources = {row["source"] for name in METHODS for row in rows(name)}
    assert (
        {source for source in sources if "%" in source} == {one for one in sources if one.startswith(MEASURED)} != set()
    )
