"""Numbers beyond what they can be: refused before anything is read, trained or allocated, with a way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import dd
from dd.base import bounds
from dd.base.shapes import check_number, check_options, check_whole
from dd.cli.main import main
from dd.data.images.resize import fit, parse_size
from dd.experts import ExpertRecipe
from dd.models import ModelSpec, build
from dd.models.graphs.spec import GraphSpec
from dd.synthetic import TrainRecipe, TreeRecipe
from dd.teachers import TeacherRecipe

BIG = 10**9
HUGE = 10**5000
"""More digits than Python writes."""


@pytest.fixture(autouse=True)
def _nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))


def distil(method: str = "random", data: Any = "digits", **options: Any) -> Any:
    return dd.distill(data, method, progress=False, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seed": 1.5}, r"`seed` must be a whole number; got 1\.5"),
        ({"seed": -1}, r"`seed` must be at least 0; got -1"),
        ({"seed": 10**30}, r"`seed` must be at most 9,223,372,036,854,775,807; got about 10\^30\. Take another"),
        ({"seed": HUGE}, r"`seed` must be at most .*; got about 10\^5000"),
        ({"seed": np.int64(3)}, r"`seed` must be a whole number; got np.int64\(3\)\. Give a plain number: its `.item"),
        ({"seed": True}, r"`seed` must be a whole number; got True"),
        ({"threads": BIG}, r"`threads` must be at most 1,024; got 1000000000\. Give the number of cores"),
        ({"micro_batch": BIG}, r"`micro_batch` must be at most 10,000,000"),
        ({"micro_batch": 0}, r"`micro_batch` must be at least 1; got 0"),
        ({"reuse": -1}, r"`reuse` must be at least 0; got -1"),
        ({"size": 10**6}, r"`size` must be at most 8,192; got 1000000\. Give the side in pixels"),
        ({"size": (8, 10**6)}, r"`size` must be at most 8,192"),
        ({"size": np.int64(8)}, r"`size` must be a positive integer"),
        (
            {"size": 8000},
            r"1,\d+ images of 8000 x 8000 would take .* GiB of memory, and this machine has .* Lower `size`",
        ),
        ({"ipc": BIG}, r"`ipc` must be at most 1,000,000; got 1000000000\. Give a smaller one"),
        ({"ipc": torch.tensor(3)}, r"`ipc` must be a whole number"),
        ({"compile": 3}, r"`compile` must be true or false or None; got 3"),
    ],
)
def test_options_of_distill(options: dict[str, Any], text: str) -> None:
    with pytest.raises(dd.InputError, match=text):
        distil(**options)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ipc", 10**30),
        ("iterations", 10**12),
        ("student_steps", BIG),
        ("expert_epochs", BIG),
        ("batch_syn", BIG),
        ("canvas", BIG),
        ("canvas_samples", BIG),
        ("lr_img", float("inf")),
        ("lr_init", float("nan")),
        ("ema", 10**400),
        ("momentum", -float("inf")),
        ("skip_above", float("nan")),
    ],
)
def test_fields_of_a_method(field: str, value: Any) -> None:
    with pytest.raises(dd.InputError, match=f"`{field}` must be"):
        distil("mtt", **{field: value})


def test_infinity_is_a_number_where_it_means_never() -> None:
    assert dd.MTT(skip_above=float("inf")).skip_above == float("inf")


@pytest.mark.parametrize("method", ["sre2l", "infer", "rded", "herding", "class_mean"])
def test_every_method_is_bounded(method: str) -> None:
    with pytest.raises(dd.InputError, match="`ipc` must be"):
        distil(method, ipc=HUGE)


@pytest.mark.parametrize("field", ["budget_bytes", "depth", "max_patterns", "min_support"])
def test_fields_of_mirage(field: str) -> None:
    with pytest.raises(dd.InputError, match=f"`{field}` must be"):
        distil("mirage", "digits-graphs", **{field: 10**30})


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        (ExpertRecipe, "experts"),
        (ExpertRecipe, "snapshots"),
        (ExpertRecipe, "batch_size"),
        (ExpertRecipe, "lr"),
        (TrainRecipe, "steps"),
        (TrainRecipe, "temperature"),
        (TreeRecipe, "steps"),
        (TeacherRecipe, "epochs"),
    ],
)
def test_fields_of_recipes(recipe: Any, field: str) -> None:
    with pytest.raises(dd.InputError, match=f"`{field}` must be"):
        recipe(**{field: 10**39})


@pytest.mark.parametrize("text", ["width=1000000000", "depth=100000", "width=1e300", f"width={'9' * 2000}"], ids=len)
def test_options_of_a_model(text: str) -> None:
    with pytest.raises(dd.InputError, match=f"`{text[:5]}` must be"):
        ModelSpec.parse(f"convnet({text})")


@pytest.mark.parametrize("text", ["gin(width=1000000000)", "gin(layers=100000)", "gat(heads=1000000000)"])
def test_options_of_a_graph_model(text: str) -> None:
    with pytest.raises(dd.InputError, match=r"must be at most"):
        GraphSpec.parse(text)


def test_a_network_larger_than_the_memory_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        dd.InputError, match=r"resnet9\(width=16384\) and its gradient would take .* Take a smaller one"
    ):
        build("resnet9(width=16384)", channels=3, classes=10, size=(32, 32), seed=0)
    net = build("resnet9(width=8)", channels=3, classes=10, size=(32, 32), seed=0)
    numbers = sum(p.numel() for p in net.parameters())
    monkeypatch.setattr(bounds, "machine_bytes", lambda: 8 * numbers - 1)
    with pytest.raises(dd.InputError, match="would take"):
        build("resnet9(width=8)", channels=3, classes=10, size=(32, 32), seed=0)
    monkeypatch.setattr(bounds, "machine_bytes", lambda: 8 * numbers)
    build("resnet9(width=8)", channels=3, classes=10, size=(32, 32), seed=0)


def test_trajectories_and_images_larger_than_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(dd.InputError, match=r"weights after each of 10,000,000 student steps .* Lower `student_steps`"):
        distil("mtt", ipc=1, student_steps=10**7)
    monkeypatch.setattr(bounds, "machine_bytes", lambda: 10**5)
    with pytest.raises(dd.InputError, match=r"20 images a class and their gradient would take .* Lower `ipc`"):
        distil(ipc=20)


@pytest.mark.parametrize(
    "call",
    [
        lambda: dd.evaluate("x", "digits", repeats=BIG),
        lambda: dd.evaluate("x", "digits", lr=float("nan")),
        lambda: dd.evaluate("x", "digits", steps=10**12),
        lambda: dd.benchmark("digits", ["random"], ipc=[1, HUGE]),
        lambda: dd.benchmark("digits", ["random"], seeds=BIG),
        lambda: dd.distill_many("digits", "random", seeds=(0, -1)),
        lambda: dd.distill_many("digits", "random", seeds=(0, 10**30)),
        lambda: dd.train("x", steps=BIG),
        lambda: dd.train("x", lr=float("inf")),
        lambda: dd.buffer("digits", "cpu-digits-mtt", experts=BIG),
        lambda: dd.buffer("digits", "cpu-digits-mtt", snapshots=10**30),
        lambda: dd.teach("digits", ["mlp"], threads=BIG),
        lambda: dd.calibration("x", "digits", bins=BIG),
        lambda: dd.membership("x", "digits", shadows=BIG),
        lambda: dd.continual("x", "digits", tasks=BIG),
        lambda: dd.load_images("digits", workers=BIG),
        lambda: dd.load_images("digits", limit=10**30),
        lambda: dd.load_images([(torch.zeros(3, 8, 8), 0)], classes=BIG),
    ],
)
def test_options_of_verbs(call: Any) -> None:
    with pytest.raises(dd.InputError, match=r"must be (at most|at least|a finite number)"):
        call()


@pytest.mark.parametrize(
    "words",
    [
        ["distill", "digits", "mtt", "--ipc", "1000000000"],
        ["distill", "digits", "mtt", "--ipc", "9" * 5000],
        ["distill", "digits", "mtt", "--threads", "1000000000"],
        ["distill", "digits", "random", "--seed", "-1"],
        ["distill", "digits", "random", "--seed", "1.5"],
        ["distill", "digits", "random", "--seeds", "0", "1" + "0" * 30],
        ["evaluate", "x", "digits", "--lr", "nan"],
        ["evaluate", "x", "digits", "--threads", "1000000000"],
        ["estimate", "digits", "mtt", "--iterations", "1000000000000"],
        ["benchmark", "digits", "--methods", "random", "--ipc", "1000000000"],
        ["measure", "x", "digits", "--repeats", "1000000000"],
        ["buffer", "digits", "cpu-digits-mtt", "--experts", "1000000000"],
        ["teach", "digits", "convnet(norm=batch, width=1000000000)"],
    ],
)
def test_the_command_line_says_it_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: Any = main(words)
    except SystemExit as error:  # of the parser
        status = error.code
    told = capsys.readouterr()
    assert status == 2, told.err
    assert "Traceback" not in told.err + told.out


def test_numbers_and_whole_numbers() -> None:
    assert check_whole(0, "jitter", 0) == 0
    assert check_number(0.5, "lr") == 0.5
    for wrong in (float("nan"), float("inf"), -float("inf"), True, "3", np.float32(3), 10**400):
        with pytest.raises(dd.InputError, match="`lr` must be"):
            check_number(wrong, "lr")
    with pytest.raises(dd.InputError, match="a whole number of at least 0"):
        check_whole(-1, "jitter", 0)


def test_what_is_given_by_name_is_compared_with_the_annotations() -> None:
    def verb(*, count: int = 1, pair: int | tuple[int, int] = 1, other: object = None) -> None:
        del count, pair, other

    check_options(verb, {"count": 3, "pair": (1, 2), "other": HUGE})
    for given in ({"count": "3"}, {"count": None}, {"count": BIG}, {"pair": (1, 10**39)}):
        with pytest.raises(dd.InputError, match="must be"):
            check_options(verb, given)


def test_a_thin_picture_is_not_made_large_before_it_is_cut() -> None:
    with pytest.raises(dd.InputError, match=r'1 x 5,000,000, which would become 32 x 160,000,000 .* aspect="squash"'):
        fit(torch.zeros(1, 1, 5_000_000, dtype=torch.uint8), (32, 32))
    assert parse_size([4, 5]) == (4, 5)


def test_the_memory_of_the_machine_is_known() -> None:
    assert 2**28 < bounds.machine_bytes() < 2**50
