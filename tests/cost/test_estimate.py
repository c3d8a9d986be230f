"""What an estimate counts. No test looks at a time of this machine, but for its proportions."""

from __future__ import annotations

import dataclasses
import importlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dd
from dd.cost.calibrate import FUSED, fused
from dd.cost.counts import Peaks, Pieces, chunks, images_seen
from dd.cost.estimate import Estimate
from dd.cost.forward import forward_cost
from dd.cost.matching import estimate_matching
from dd.cost.memory import _GRAPH, _LIBRARIES, peak_bytes
from dd.cost.meter import Moment, quickest, timed
from dd.data import Images, load_images
from dd.errors import InputError
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.inner import InnerStep, Problem, Target, adjoint, adjoint_pass, compiler_present
from dd.inner.engines import BUILD
from dd.inner.fast import FastNet, adjoint_fast
from dd.methods import METHODS, TrajectoryMatching
from dd.transforms.whiten import make_transform

CPU = torch.device("cpu")
module = importlib.import_module("dd.cost.matching")
PIECES = Pieces(
    expert_step=0.5, expert_snapshot=0.25, iteration=2.0, student_image=0.125, train_step=0.0625, score_image=0.5
)


def real_images(train: int = 40, side: int = 8) -> Images:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (train + 8, 3, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.arange(train + 8) % 4
    given = Images(train=(images[:train], labels[:train]), test=(images[train:], labels[train:]))
    return load_images(given).all_train()


def matching(**fields: object) -> TrajectoryMatching:
    recipe = ExpertRecipe(
        model="convnet(width=4,depth=1)", batch_size=16, experts=2, snapshots=6, snapshot_unit="step", augment="crop"
    )
    base = TrajectoryMatching(ipc=2, expert=recipe, iterations=10, student_steps=3, expert_epochs=2, max_start_epoch=3)
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that are given, in place of measured ones."""
    monkeypatch.setattr(module, "measure_pieces", lambda *args: PIECES)


def guess(method: TrajectoryMatching, real: Images | None = None, calibrate: bool = True) -> Estimate:
    return estimate_matching(method, real_images() if real is None else real, CPU, calibrate)


@pytest.mark.parametrize(("experts", "start", "model"), [(1, 1, "convnet(width=4,depth=1)"), (3, 4, "mlp")])
def test_disk_is_what_a_run_writes(tmp_path: Path, experts: int, start: int, model: str) -> None:
    real, base = real_images(), matching()
    recipe = dataclasses.replace(base.expert, experts=experts, model=model)
    method = dataclasses.replace(base, expert=recipe, max_start_epoch=start)
    store = ExpertStore(tmp_path, recipe, real)
    store.ensure(make_transform(real, False), snapshots=method.snapshots_read)
    written = sum(path.stat().st_size for path in store.folder.iterdir())
    assert guess(method, real, calibrate=False).disk_bytes == written


def test_a_compiled_expert_says_so_on_disk(tmp_path: Path) -> None:
    store = ExpertStore(tmp_path, matching().expert, real_images())
    eager, compiled = (store.size_on_disk(1, 2, 10, road) for road in ("eager", "compiled"))
    assert 0 < compiled - eager <= len(', "road": "compiled"') + 20  # quotes are escaped, the header is padded


@pytest.mark.usefixtures("fixed")
def test_times_are_pieces_times_counts() -> None:
    found = guess(matching())
    # 2 experts × 4 snapshots of a step each, 5 snapshots with the initialisation
    assert found.stages["experts"] == pytest.approx(8 * 0.5 + 2 * 5 * 0.25, abs=1e-3)
    # N = 3 steps on all 8 images
    assert found.stages["matching"] == pytest.approx(10 * (2.0 + 24 * 0.125))
    assert found.stages["selection"] == 0
    assert found.seconds == pytest.approx(sum(found.stages.values()))


@pytest.mark.usefixtures("fixed")
def test_what_doubles() -> None:
    base = matching()
    one = guess(base)
    twice = guess(dataclasses.replace(base, iterations=20))
    assert twice.stages["matching"] == 2 * one.stages["matching"]
    assert (twice.stages["experts"], twice.peak_bytes) == (one.stages["experts"], one.peak_bytes)
    more = guess(dataclasses.replace(base, expert=dataclasses.replace(base.expert, experts=4)))
    assert more.stages["experts"] == pytest.approx(2 * one.stages["experts"])
    assert more.stages["matching"] == one.stages["matching"]
    about = 600  # recipe.json
    assert more.disk_bytes == pytest.approx(2 * one.disk_bytes, abs=2 * about)


@pytest.mark.usefixtures("fixed")
def test_going_back_a_few_steps_costs_less() -> None:
    whole, none = guess(matching(student_steps=4)), guess(matching(student_steps=4, truncate=1))
    # 3 of an image's 12 forward passes are there, 9 back
    there, back = 3 / 12, 9 / 12 / 4
    assert none.stages["matching"] == pytest.approx(10 * (2.0 + 32 * 0.125 * (there + back)))
    assert whole.stages["matching"] == pytest.approx(10 * (2.0 + 32 * 0.125))


@pytest.mark.usefixtures("fixed")
def test_selection_is_counted_where_there_is_a_choice() -> None:
    base = matching(candidate_every=5)  # two candidates, two networks each, eight test images
    train = dataclasses.replace(base.train, steps=10)
    found = guess(dataclasses.replace(base, train=train))
    assert found.stages["selection"] == pytest.approx(4 * 10 * 0.0625 + 4 * 8 * 0.5)


def test_a_long_run_is_compiled_where_it_can_be() -> None:
    real, base = real_images(side=32), matching()
    expert = dataclasses.replace(base.expert, model="convnet(width=32,depth=3)", experts=100, snapshots=600)
    long = dataclasses.replace(base, expert=expert, iterations=10**6, max_start_epoch=599)
    found = guess(long, real, calibrate=False)
    short = guess(dataclasses.replace(long, iterations=1, max_start_epoch=1), real, calibrate=False)
    assert short.stages["compilation"] == 0
    assert found.stages["compilation"] == (BUILD if compiler_present() else 0)
    traced = dataclasses.replace(long, expert=dataclasses.replace(expert, model="convnet(width=32,depth=3,pool=max)"))
    assert (guess(traced, real, calibrate=False).stages["compilation"] > 10) == compiler_present()  # by torch.compile
    other = dataclasses.replace(expert, model="mlp")
    assert guess(dataclasses.replace(long, expert=other), real, calibrate=False).stages["compilation"] == 0


def test_what_compiling_leaves() -> None:
    assert fused(1.0, "matching") == 1
    assert fused(0.0, "expert") == FUSED["expert"]
    assert FUSED["matching"] < fused(0.5, "matching") < 1


def test_kept_bytes_are_what_the_fast_path_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    real, method = real_images(), matching(ipc=2)
    student = make_student(method.expert, real, 0)
    seen: list[int] = []
    gradient = FastNet.gradient

    def spy(self: FastNet, *args: object, **more: object) -> object:
        kept = gradient(self, *args, **more)  # type: ignore[arg-type]
        if kept is not None:
            seen.append(sum(t.numel() * t.element_size() for t in (*kept.z, *kept.g_out)))
        return kept

    predicted = module._kept_bytes(student, real)
    monkeypatch.setattr(FastNet, "gradient", spy)
    steps = [InnerStep(torch.arange(8), method.expert.dsa().draw(8, (8, 8), torch.Generator())) for _ in range(3)]
    target = Target(3, student.initial + 0.1)
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    adjoint_fast(
        Problem(student, student.initial, [target], images, labels, torch.tensor(0.1), steps),
        micro_batch=4,
        compiled=False,
    )
    assert sum(seen) == predicted * 8 * 3


def test_memory_grows_by_what_is_stored() -> None:
    real = real_images()
    short, long = matching(student_steps=3), matching(student_steps=103)
    counts = [module._count(m, real, CPU, make_student(m.expert, real, 0)) for m in (short, long)]
    p = 4 * make_student(short.expert, real, 0).size
    graph = 4 * 8 * (1.4 * counts[0].numbers + 2 * counts[0].pixels) + 2 * p
    peaks = Peaks(expert=0, matching=50_000_000, student_steps=3, student_batch=8, expert_images=16, synthetic=8)
    for seen in (None, peaks):
        few, many = (peak_bytes(m, n, seen) for m, n in zip((short, long), counts, strict=True))
        assert many - few == pytest.approx(100 * (2 * p + graph), abs=100)  # θ_0 … θ_N, gradients, graphs
        lean = [dataclasses.replace(n, road=dataclasses.replace(n.road, reuse=1)) for n in counts]
        few, many = (peak_bytes(m, n, seen) for m, n in zip((short, long), lean, strict=True))
        assert many - few == 100 * 2 * p
    assert peak_bytes(short, counts[0], peaks) == 50_000_000 + _LIBRARIES  # no more, seen at full size
    half = dataclasses.replace(peaks, student_batch=4)
    assert 50_000_000 < peak_bytes(short, counts[0], half) - _LIBRARIES <= 100_000_000  # the graph is a sum over images


def test_graphs_that_are_kept_are_counted_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    real, method = real_images(), matching(student_steps=103)
    student = make_student(method.expert, real, 0)
    n = module._count(method, real, CPU, student)
    steps = [InnerStep(torch.arange(8), method.expert.dsa().draw(8, (8, 8), torch.Generator())) for _ in range(2)]
    target = Target(2, student.initial + 0.1)
    adjoint(
        Problem(
            student, student.initial, [target], torch.randn(8, 3, 8, 8), torch.arange(8) % 4, torch.tensor(0.1), steps
        )
    )
    (weight,) = adjoint_pass._WEIGHTS[student].values()
    graph = 4 * 8 * (_GRAPH * n.numbers + 2 * n.pixels) + 8 * n.parameters
    assert weight == pytest.approx(graph, rel=0.1)
    whole = peak_bytes(method, n, None)
    monkeypatch.setattr("dd.cost.memory.ROOM", 10 * weight)
    assert whole - peak_bytes(method, n, None) == pytest.approx(93 * weight, rel=0.1)


def test_memory_of_snapshots_that_are_saved() -> None:
    real, method = real_images(), matching()
    n = module._count(method, real, CPU, make_student(method.expert, real, 0))
    p = 4 * n.parameters
    peaks = Peaks(left=1_000_000, expert_images=16, snapshots=3, student_batch=8)
    assert peak_bytes(method, n, peaks) >= 1_000_000 + 6 * p * n.snapshots


def test_a_calibration_measures_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    for fields in ({}, {"candidate_every": 5, "init": "representative"}, {"canvas": 2, "canvas_samples": 2}):
        found = dd.estimate(real_images(), matching(**fields), calibrate=True, device="cpu")
        assert found.measured
        assert found.stages["experts"] > 0
        assert found.stages["matching"] > 0
        assert (found.stages["selection"] > 0) == ("candidate_every" in fields)
        assert found.peak_bytes > 0
        assert found.to_json()["seconds"] == found.seconds
        assert "measured" in str(found)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not compiler_present(), reason="no compiler")
def test_a_compiled_road_is_calibrated_without_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **more: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr("dd.methods.trajectory.loop.worth_compiling", lambda *args: True)
    monkeypatch.setattr(module, "long_enough", lambda *args: True)
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", never)
    found = dd.estimate(real_images(), matching(), calibrate=True, device="cpu")
    assert found.stages["compilation"] == BUILD
    assert found.stages["matching"] > 0


def test_images_of_the_first_steps() -> None:
    assert list(chunks(10, 4, 5)) == [2, 4, 4, 2, 4]
    assert images_seen(10, None, 3) == 30


def test_the_quickest_of_several_trials_counts() -> None:
    assert quickest([9.0, 1.0, 2.0, 3.0, 9.0, 9.0]) == 2.0  # a mean of three in a row
    assert quickest([4.0, 2.0]) == 3.0


def test_waiting_is_not_working(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs take the processor: what is counted is this process's own time, never more than went by."""
    threads = torch.get_num_threads()
    start, end = Moment(0.0, 0.0, 0.0), Moment(10.0, 1.0, 3.0 * threads)
    assert start.until(end) == pytest.approx(3.0)
    assert start.until(Moment(10.0, 4.0, 0.0)) == 4.0
    assert start.until(Moment(2.0, 4.0, 0.0)) == 2.0
    moments = iter([start, end, start, end])
    monkeypatch.setattr(Moment, "now", lambda: next(moments))
    assert timed(lambda: "done", CPU) == (pytest.approx(3.0), "done")
    assert timed(lambda: "done", torch.device("meta"))[0] == 10.0  # another device works while the process waits


def test_a_forward_pass_is_counted_by_hand() -> None:
    """Two layers whose products can be counted with a pencil; modes and hooks are as before."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 5, 7))
    net[1].eval()
    found = forward_cost(net, 3, (6, 5))
    assert found.flops == 2 * (4 * 6 * 5) * (3 * 9) + 2 * 7 * (4 * 6 * 5)
    assert (found.layers, found.largest) == (4, 4 * 6 * 5)
    assert found.numbers == 3 * 4 * 6 * 5 + 7
    assert found.parameters == sum(t.numel() for t in (*net.parameters(), *net.buffers()))
    assert (net.training, net[1].training) == (True, False)
    assert not any(m._forward_hooks for m in net.modules())


def test_refusals() -> None:
    with pytest.raises(InputError, match="fields \\(ipc\\) go with a method's name"):
        dd.estimate(real_images(), matching(), ipc=3)
    with pytest.raises(InputError, match="device"):
        dd.estimate(real_images(), matching(), device="abacus")


LAID = [key for key, kind in METHODS.items() if hasattr(kind(), "factor")]


@pytest.mark.parametrize(
    "fields", [{"factor": 3}, {"factor": 2, "ipc": 100}, {"ipc": 1000}, {"ipc": {"3": 200}}], ids=str
)
@pytest.mark.parametrize("name", LAID)
def test_what_a_run_refuses_is_not_estimated(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """`random` was estimated with a factor that its run refuses."""
    told = []
    for verb in (dd.estimate, partial(dd.distill, out=tmp_path)):
        with pytest.raises(InputError) as refused:
            verb("digits", name, **fields)  # type: ignore[operator]
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_an_estimate_says_what_it_is_of() -> None:
    for asked, told in (
        (dd.estimate("digits", "mtt", ipc=1), "mtt on digits, ipc 1, preset `cpu` of digits: "),
        (dd.estimate("digits", "mtt"), "mtt on digits, ipc 10, preset `cpu` of digits: "),
        (
            dd.estimate("digits", "ftd", ipc=2, iterations=9),
            "ftd on digits, ipc 2, preset `cpu` of digits, but for `iter",
        ),
        (dd.estimate("cifar10", "mtt", ipc=1, preset="paper"), "mtt on cifar10, ipc 1, preset `paper` of cifar10: "),
        (dd.estimate("digits", "random", ipc=3), "random on digits, ipc 3, preset `cpu` of any data: "),
        (dd.estimate("digits", matching()), "mtt on digits, ipc 2, fields as given: "),
    ):
        assert str(asked).startswith(told)
        assert asked.to_json()["of"] == asked.of != ""
