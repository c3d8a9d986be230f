"""The store: trajectories that can be stopped, continued, shared and trusted, and are never made twice."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.experts import REAL, Store, data, recipe, take
from safetensors.torch import save_file
from torch import Tensor

import dd
from dd.base import files, locks
from dd.errors import DamagedError, InputError, MissingError, WriteError
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.experts.store import verify_folder

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
    with pytest.raises(InputError, match=rf"`{next(iter(options))}` must be a whole number"):
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

    monkeypatch.setattr("dd.experts.store.read_rows", counting)
    monkeypatch.setattr("dd.experts.store.load_tensors", None)
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
    text = r"the tensors of .*00000\.safetensors do not match their checksum"
    with pytest.raises(DamagedError, match=text):
        filled.fill(snapshots=5)  # never continued
    with pytest.raises(DamagedError, match=text):
        verify_folder(filled.folder)


@pytest.mark.parametrize("name", ["velocity", "steps", "accuracy"])
def test_a_flipped_bit_beside_the_snapshots_stops_the_continuation(filled: Store, name: str) -> None:
    damage(filled.path(0), name)
    text = r"the tensors of .*00000\.safetensors do not match their checksum"
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
    monkeypatch.setattr("dd.experts.store.meet", lambda: waits.append(None))
    monkeypatch.setattr("dd.experts.store.barrier", lambda: waits.append(None))
    monkeypatch.setenv("WORLD_SIZE", "2")
    whole = Store(tmp_path / "whole")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        assert Store(tmp_path / "shared").fill(experts=3) == [[0, 2], [1]][rank]
    assert len(waits) == 4
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
    other.enter_context(locks.locked(store.folder / ".00000.lock"))

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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", torch.arange(3)),
        ("steps", torch.arange(5).flip(0)),
        ("accuracy", torch.zeros(5, dtype=torch.float64)),
        ("theta", torch.zeros(4, 3)),
        ("velocity", torch.zeros(2)),
        ("more", torch.zeros(2)),
    ],
)
def test_a_file_that_no_expert_gives_is_refused_whatever_its_checksum(filled: Store, name: str, value: Any) -> None:
    tensors, meta = files.load_tensors(filled.path(0))
    files.save_tensors(filled.path(0), {**tensors, name: value}, meta)
    text = r"00000\.safetensors (is no expert of \d snapshots|has a velocity).*Remove it; `dd.buffer` makes it anew"
    for read in (lambda: filled.fill(snapshots=9), lambda: filled.curve(0), lambda: verify_folder(filled.folder)):
        with pytest.raises(DamagedError, match=text):
            read()
