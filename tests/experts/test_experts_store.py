"""The store: trajectories that can be stopped, continued, shared and trusted, and are never made twice."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.training import sgd
from safetensors.torch import save_file
from torch import Tensor, nn

import dd
from dd import files
from dd.data import Images
from dd.errors import DamagedError, DivergedError, InputError, MissingError, WriteError
from dd.experts import ExpertRecipe, ExpertStore, ExpertTrainer, Snapshot, make_student
from dd.experts import store as store_module
from dd.experts.store import verify_folder
from dd.seeding import child
from dd.whiten import make_transform

CPU = torch.device("cpu")


def data(seed: int = 0, **options: Any) -> Images:
    """3 classes of 1×8×8, 27 images for training (9 a class), 3 for validation, 6 for the test."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat(10)
    images = torch.randint(0, 256, (30, 1, 8, 8), generator=generator, dtype=torch.uint8)
    images[:, :, :4] = (images[:, :, :4] // 4 + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    return dd.load_images(dd.Images(train=(images, labels), test=(images[:6], labels[:6]), **options))


def recipe(**fields: Any) -> ExpertRecipe:
    """7 steps an epoch."""
    base: dict[str, Any] = {"model": "convnet(width=4)", "lr": 0.05, "batch_size": 4, "experts": 2, "snapshots": 3}
    return ExpertRecipe(**{**base, "augment": "crop_flip", **fields})


REAL = data()
STEPS_PER_EPOCH = 7


def trainer(value: ExpertRecipe, real: Images = REAL) -> ExpertTrainer:
    return ExpertTrainer(value, real, make_transform(real, value.whiten), CPU)


def take(value: ExpertRecipe, count: int, start: Snapshot | None = None, seed: int = 0) -> list[Snapshot]:
    return list(islice(trainer(value).snapshots(seed, start), count))


class Store(ExpertStore):
    """A store of `REAL` whose `fill` keeps what the progress callback told."""

    def __init__(self, root: Path, value: ExpertRecipe | None = None, real: Images = REAL) -> None:
        super().__init__(root, value or recipe(), real)
        self.told: list[str] = []

    def fill(self, stop: Callable[[str], bool] = lambda text: False, **options: Any) -> list[int]:
        def progress(done: int, total: int, text: str) -> None:
            self.told.append(f"{done}/{total} {text.partition(',')[0]}")
            if stop(self.told[-1]):
                raise KeyboardInterrupt

        return self.ensure(make_transform(self.real, self.recipe.whiten), progress=progress, **options)

    def state(self) -> dict[str, tuple[bytes, int]]:
        found = [path for path in sorted(self.folder.iterdir()) if path.suffix != ".lock"]
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    def bytes(self) -> dict[str, bytes]:
        return {name: data for name, (data, _) in self.state().items()}


class Dropping(nn.Module):
    """A network with dropout, as a layer or by a call that no one can see."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int], hidden: bool) -> None:
        super().__init__()
        self.drop = nn.Identity() if hidden else nn.Dropout(0.5)
        self.hidden, self.last = hidden, nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x.flatten(1))
        return self.last(nn.functional.dropout(x, 0.5, self.training) if self.hidden else x)


# Training


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.05},
        {"augment": "color_crop_cutout_flip_scale_rotate", "augment_mode": "all"},
        {"step": "gsam", "rho": 0.0, "alpha": 0.7},
        {"step": "gsam", "rho": 0.0, "adaptive": False, "momentum": 0.9},
        {"whiten": True},
    ],
    ids=["sgd", "momentum", "dsa", "gsam of radius 0", "gsam of radius 0, not adaptive", "zca"],
)
def test_trajectory_is_that_of_the_plain_loop(fields: dict[str, Any]) -> None:
    value = recipe(**fields, snapshot_unit="step", lr=0.02)
    transform, student = make_transform(REAL, value.whiten), make_student(value, REAL, seed=3)
    batches = []
    for step in range(2 * STEPS_PER_EPOCH):
        epoch, place = divmod(step, STEPS_PER_EPOCH)
        rows = torch.randperm(27, generator=child(3, "order", epoch))[4 * place : 4 * (place + 1)]
        draw = value.dsa().draw(len(rows), (8, 8), child(3, "draw", step))
        batches.append((draw(transform.forward(REAL.train.pixels(rows))), REAL.train.labels[rows]))
    assert [len(x) for x, _ in batches[:STEPS_PER_EPOCH]] == [4] * 6 + [3]
    twin = sgd(student.module, batches, [0.02] * len(batches), value.momentum, value.weight_decay)
    made = take(value, len(twin), seed=3)
    for slow, fast in zip(twin, made, strict=True):
        torch.testing.assert_close(fast.theta, slow, rtol=1e-6, atol=1e-6)


def test_gsam_of_a_radius_is_another_trajectory() -> None:
    plain, flat = (take(recipe(step=step, rho=0.5), 2)[1] for step in ("sgd", "gsam"))
    assert float((plain.theta - flat.theta).abs().max()) > 1e-3


def test_snapshot_0_is_the_seeded_initialisation() -> None:
    for seed in (0, 1):
        first = take(recipe(), 1, seed=seed)[0]
        assert first.step == 0
        assert torch.equal(first.theta, make_student(recipe(), REAL, seed).initial)
        assert not first.velocity.any()
    assert not torch.equal(make_student(recipe(), REAL, 0).initial, make_student(recipe(), REAL, 1).initial)


@pytest.mark.parametrize(("unit", "every", "per"), [("step", 1, 1), ("step", 3, 3), ("epoch", 1, 7), ("epoch", 2, 14)])
def test_snapshots_come_at_the_cadence_and_are_copies(unit: str, every: int, per: int) -> None:
    found = take(recipe(snapshot_unit=unit, snapshot_every=every), 5)
    assert [s.step for s in found] == [per * k for k in range(5)]
    assert len({files.digest(s.theta) for s in found}) == 5
    assert len({s.theta.data_ptr() for s in found}) == 5
    assert all(s.theta.dtype == torch.float32 and not s.theta.requires_grad for s in found)


def test_cadence_does_not_change_the_trajectory() -> None:
    fine = {s.step: s.theta for s in take(recipe(snapshot_unit="step"), 15)}
    for snapshot in take(recipe(), 3):
        assert torch.equal(snapshot.theta, fine[snapshot.step])


def test_accuracy_is_that_of_held_out_images_never_of_the_test() -> None:
    assert REAL.val is not None
    value, transform = recipe(lr=0.2), make_transform(REAL, False)
    student = make_student(value, REAL, 0)
    found = take(value, 4)
    for snapshot in found:
        logits = student.logits(snapshot.theta, transform.forward(REAL.val.pixels()))
        assert snapshot.accuracy == int((logits.argmax(1) == REAL.val.labels).sum()) / 3
    bare = dd.Images(train=REAL.train, val=None, test=None, classes=3)
    assert next(trainer(value, bare).snapshots(0)).accuracy != next(trainer(value, bare).snapshots(0)).accuracy  # NaN


@pytest.mark.parametrize("hidden", [True, False])
def test_networks_that_draw_are_repeatable_and_leave_the_global_stream(hidden: bool) -> None:
    model = dd.Model(functools.partial(Dropping, hidden=hidden), name="dropping")
    value = recipe(model=model, snapshot_unit="step", step="gsam", rho=0.1)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    whole = take(value, 4)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(2)
    rest = take(value, 2, whole[1])
    assert torch.equal(rest[1].theta, whole[3].theta)
    if not hidden:  # a student is a function of θ
        student, x = make_student(value, REAL, 0), REAL.test.pixels() if REAL.test else torch.empty(0)
        assert torch.equal(student.logits(student.initial, x), student.logits(student.initial, x))


def test_divergence_names_the_expert() -> None:
    text = r"expert 2 of recipe 'custom' is not finite after \d+ steps\. Lower `lr` \(now 1e\+38\)"
    with pytest.raises(DivergedError, match=text):
        take(recipe(lr=1e38), 3, seed=2)


def test_divergence_keeps_what_was_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ExpertTrainer._step

    def step(self: ExpertTrainer, *rest: Any) -> tuple[Tensor, Tensor]:
        theta, velocity = original(self, *rest)
        return (theta if rest[-1] < 2 else theta * torch.nan), velocity

    monkeypatch.setattr(ExpertTrainer, "_step", step)
    store = Store(tmp_path, recipe(snapshot_unit="step"))
    with pytest.raises(DivergedError, match="after 3 steps"):
        store.fill()
    assert store.length(0) == 3
    assert all(bool(torch.isfinite(theta).all()) for theta in store.read(0, range(3)))


# Continue, interrupt, repeat

KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "gsam": {"step": "gsam", "rho": 0.1, "momentum": 0.5},
    "steps across epochs": {"momentum": 0.9, "snapshot_unit": "step", "snapshot_every": 5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_continued_is_unbroken_bit_for_bit(tmp_path: Path, kind: str) -> None:
    whole = Store(tmp_path / "whole", recipe(**KINDS[kind]))
    parts = Store(tmp_path / "parts", recipe(**KINDS[kind]))
    assert whole.fill(snapshots=5) == [0, 1]
    for snapshots in (1, 2, 5):
        assert parts.fill(snapshots=snapshots) == [0, 1]
        assert [parts.length(seed) for seed in (0, 1, 2)] == [snapshots + 1, snapshots + 1, 0]
    assert parts.bytes() == whole.bytes()
    assert len(set(read_sums(whole, 0)) | set(read_sums(whole, 1))) == 12


def read_sums(store: ExpertStore, seed: int) -> list[str]:
    return [files.digest(theta) for theta in store.read(seed, range(store.length(seed)))]


def test_a_second_call_repeats_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.fill() == [0, 1]
    assert store.told == [f"{done}/8 expert {0 if done < 5 else 1}" for done in range(1, 9)]
    before = store.state()
    again = Store(tmp_path)
    assert again.fill() == []
    assert again.fill(experts=1, snapshots=2) == []
    assert again.told == []
    assert again.state() == before
    assert again.fill(experts=3) == [2]
    assert {name: again.state()[name] for name in before} == before
    assert again.told == [f"{done}/4 expert 2" for done in range(1, 5)]


@pytest.mark.parametrize("stop", ["1/8", "3/8", "4/8", "5/8", "7/8"])
def test_an_interrupted_store_is_completed_to_the_same_bytes(tmp_path: Path, stop: str) -> None:
    whole = Store(tmp_path / "whole", recipe(momentum=0.9))
    whole.fill()
    cut = Store(tmp_path / "cut", recipe(momentum=0.9))
    with pytest.raises(KeyboardInterrupt):
        cut.fill(lambda text: text.startswith(stop))
    done = int(stop[0])
    kept = [min(done, 4), max(done - 4, 0)]
    # a lone initialisation costs nothing and is not kept
    assert [cut.length(seed) for seed in (0, 1)] == [n if n > 1 else 0 for n in kept]
    cut.told.clear()
    cut.fill()
    assert len(cut.told) == 8 - sum(cut_n for cut_n in kept if cut_n > 1)
    assert cut.bytes() == whole.bytes()


def test_full_disk_keeps_the_earlier_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, recipe(experts=1))
    store.fill(snapshots=1)
    before = store.state()

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"00000\.safetensors: No space left on device"):
        store.fill(snapshots=2)
    assert store.state() == before
    monkeypatch.undo()
    store.fill(snapshots=2)
    assert store.length(0) == 3


@pytest.mark.parametrize("options", [{"experts": 0}, {"snapshots": 0}, {"experts": 1.5}])
def test_ensure_refuses_nothing_to_do(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"`{next(iter(options))}` must be a whole number of at least 1"):
        Store(tmp_path).fill(**options)
    assert not list(tmp_path.iterdir())


# The key


def test_folder_and_key_follow_recipe_and_data(tmp_path: Path) -> None:
    base = Store(tmp_path)
    assert base.folder == tmp_path / f"custom-{base.key[:8]}"
    assert Store(tmp_path, recipe(experts=9, snapshots=9)).folder == base.folder
    assert Store(tmp_path, recipe(name="mine")).key == base.key
    assert Store(tmp_path, recipe(lr=0.06)).key != base.key
    assert Store(tmp_path, real=data(seed=1)).key != base.key
    assert Store(tmp_path, real=data(classes=("a", "b", "c"))).key != base.key
    assert Store(tmp_path, real=REAL.all_train()).key != base.key  # nothing held out: protocol="paper"


def test_key_follows_constants_that_were_given(tmp_path: Path) -> None:
    given = data(mean=(0.5,), std=(0.25,))
    keys = [Store(tmp_path, real=real).key for real in (REAL, given, data(mean=(0.5,), std=(0.5,)))]
    assert len(set(keys)) == 3


def test_recipe_stands_beside_the_experts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(experts=1, snapshots=1)
    told = files.read_json(store.folder / "recipe.json")
    assert told == {"key": store.key, "data": REAL.fingerprint, "recipe": recipe().describe()}
    assert ExpertRecipe(**told["recipe"]) == recipe()
    steps, accuracy = store.curve(0)
    assert steps.tolist() == [0, 7]
    assert ((accuracy >= 0) & (accuracy <= 1)).all()


# Reading


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    store = Store(tmp_path, recipe(experts=1, snapshots=4, momentum=0.9))
    store.fill()
    return store


def test_missing_experts_and_snapshots_say_the_way_out(filled: Store) -> None:
    with pytest.raises(MissingError, match=r"no expert 7 in .*custom-.*Run `dd.buffer`, or lower `experts`"):
        filled.read(7, (0,))
    for row in (5, -1):
        text = rf"snapshot {row} of expert 0 is not in .*which has 0…4\. Lower `max_start_epoch` or `expert_epochs`"
        with pytest.raises(MissingError, match=text):
            filled.read(0, (0, row))


def test_two_rows_are_read_without_the_rest(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = filled.read(0, (1, 3))
    asked: list[tuple[str, tuple[int, ...]]] = []
    original = files.read_rows

    def counting(path: Path, name: str, rows: tuple[int, ...]) -> list[Tensor]:
        asked.append((name, tuple(rows)))
        return original(path, name, rows)

    monkeypatch.setattr(store_module, "read_rows", counting)
    monkeypatch.setattr(store_module, "load_tensors", None)
    found = filled.read(0, (1, 3))
    assert asked == [("theta", (1, 3))]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def damage(path: Path, name: str, row: int | None = None) -> None:
    """Flip a bit of a tensor in the file, past its header."""
    tensors, _ = files.load_tensors(path)
    part = tensors[name] if row is None else tensors[name][row]
    raw = part.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    whole = bytearray(path.read_bytes())
    place = whole.index(raw)
    whole[place] ^= 1
    path.write_bytes(bytes(whole))


def test_a_flipped_bit_is_found_where_it_is_read(filled: Store) -> None:
    path = filled.path(0)
    damage(path, "theta", row=2)
    filled.read(0, (1, 3))  # the others are not read
    with pytest.raises(DamagedError, match=r"snapshot 2 of .*00000\.safetensors does not match its checksum\. Remove"):
        filled.read(0, (1, 2))
    with pytest.raises(DamagedError, match=r"snapshot 2 of .*00000\.safetensors"):
        filled.fill(snapshots=5)  # never continued
    with pytest.raises(DamagedError, match=r"00000\.safetensors does not match its checksums"):
        verify_folder(filled.folder)


@pytest.mark.parametrize("name", ["velocity", "steps", "accuracy"])
def test_a_flipped_bit_beside_the_snapshots_stops_the_continuation(filled: Store, name: str) -> None:
    damage(filled.path(0), name)
    text = rf"`{name}` of .*00000\.safetensors does not match its checksum"
    with pytest.raises(DamagedError, match=text):
        filled.fill(snapshots=5)
    with pytest.raises(DamagedError, match=text):
        verify_folder(filled.folder)


def test_truncated_and_foreign_files_are_named(filled: Store, tmp_path: Path) -> None:
    path = filled.path(0)
    whole = path.read_bytes()
    save_file({"theta": torch.zeros(5, 3)}, tmp_path / "foreign")
    files.save_tensors(tmp_path / "other", {"theta": torch.zeros(5, 3)}, {"kind": "images", "format": 1})
    for content, text in (
        (whole[:-7], "is not a whole safetensors file"),
        (b"", "is not a whole safetensors file"),
        ((tmp_path / "foreign").read_bytes(), "was not written by this library"),
        ((tmp_path / "other").read_bytes(), "belongs to another recipe or data set"),
    ):
        path.write_bytes(content)
        for use in (filled.fill, lambda: filled.read(0, (0,)), lambda: filled.length(0)):
            with pytest.raises(DamagedError, match=rf"00000\.safetensors {text}"):
                use()
        with pytest.raises(DamagedError, match=r"00000\.safetensors"):
            verify_folder(filled.folder)
        assert path.read_bytes() == content


def test_a_file_in_the_wrong_place_is_named(filled: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other", recipe(lr=0.06))
    other.folder.mkdir(parents=True)
    shutil.copy(filled.path(0), other.path(0))
    with pytest.raises(DamagedError, match=rf"belongs to another recipe .*key {filled.key}, expected {other.key}"):
        other.fill()
    shutil.copy(filled.path(0), filled.path(1))  # the same trajectory twice
    with pytest.raises(DamagedError, match=r"00001\.safetensors is not expert 1 but 0"):
        filled.fill(experts=2)


def test_an_unknown_format_is_named(filled: Store) -> None:
    tensors, meta = files.load_tensors(filled.path(0))
    files.save_tensors(filled.path(0), tensors, {**meta, "format": 2})
    with pytest.raises(DamagedError, match=r"00000\.safetensors has format 2; this version reads 1"):
        filled.read(0, (0,))


def test_verify_counts_experts(filled: Store) -> None:
    assert verify_folder(filled.folder) == 1
    filled.fill(experts=3)
    assert verify_folder(filled.folder) == 3


def test_experts_trained_elsewhere_are_kept_and_never_overwritten(tmp_path: Path) -> None:
    store = Store(tmp_path)
    theirs = torch.stack([s.theta for s in take(recipe(), 3, seed=8)])
    steps, unknown = torch.tensor([0, 7, 14]), torch.full((3,), torch.nan)
    store.put(0, theirs, steps, unknown)
    before = store.state()
    store.put(0, theirs, steps, unknown)
    assert store.state() == before
    with pytest.raises(InputError, match="`seed` must be a number no other expert has; got 0"):
        store.put(0, theirs + 1, steps, unknown)
    with pytest.raises(InputError, match=r"`snapshots of expert 1` must be all different; got 1 different ones of 3"):
        store.put(1, theirs[:1].repeat(3, 1), steps, unknown)
    assert store.state() == before


# Many processes


def test_each_rank_makes_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[None] = []
    monkeypatch.setattr(store_module, "barrier", lambda: waits.append(None))
    monkeypatch.setenv("WORLD_SIZE", "2")
    whole = Store(tmp_path / "whole")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        assert Store(tmp_path / "shared").fill(experts=3) == [[0, 2], [1]][rank]
    assert len(waits) == 2
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    whole.fill(experts=3)
    assert Store(tmp_path / "shared").bytes() == whole.bytes()


@pytest.mark.parametrize("finished", [True, False])
def test_what_another_process_works_on_comes_last_and_is_not_repeated(tmp_path: Path, finished: bool) -> None:
    whole = Store(tmp_path / "whole")
    whole.fill()
    store = Store(tmp_path / "store")
    other = contextlib.ExitStack()
    other.enter_context(files.locked(store.folder / ".00000.lock"))

    def release(text: str) -> bool:
        if text.startswith("4/8 expert 1"):  # the last of expert 1
            if finished:
                shutil.copy(whole.path(0), store.path(0))
            other.close()
        return False

    store.fill(release)
    made = [text.rpartition(" ")[2] for text in store.told]
    assert made == ["1"] * 4 + ["0"] * (0 if finished else 4)
    assert store.bytes() == whole.bytes()


@pytest.mark.slow
def test_two_processes_share_one_store(tmp_path: Path) -> None:
    """Under torchrun, and once more side by side without it; both end with the bytes of one process."""
    script = Path(dd.__file__).parents[1] / "scripts" / "buffer.py"
    toml = tmp_path / "tiny.toml"
    toml.write_text('model = "convnet(width=4)"\nlr = 0.05\nexperts = 3\nsnapshots = 4\n')
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1])}

    def command(store: str, *launcher: str) -> list[str]:
        options = ["digits", str(toml), "--store", str(tmp_path / store), "--quiet", "--threads", "1"]
        return [sys.executable, *launcher, str(script), *options]

    subprocess.run(command("one"), env=environment, check=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(command("torchrun", *launcher), env=environment, check=True)
    for process in [subprocess.Popen(command("side"), env=environment) for _ in range(2)]:
        assert process.wait() == 0
    one, *others = (list((tmp_path / name).iterdir()) for name in ("one", "torchrun", "side"))
    assert [path.name for path in one] == [others[0][0].name]
    for (folder,) in others:
        assert verify_folder(folder) == 3
        for path in one[0].glob("*.*"):
            assert (folder / path.name).read_bytes() == path.read_bytes()


def test_students_of_a_recipe_are_alike() -> None:
    student = make_student(recipe(), REAL, 0, dtype=torch.float64)
    assert student.initial.dtype == torch.float64
    assert student.size == make_student(dataclasses.replace(recipe(), lr=1.0), REAL, 5).size
