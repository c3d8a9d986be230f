"""The store of expert trajectories, and the only file that knows its layout.

`<root>/<recipe>-<key8>/<seed>.safetensors`: `theta` float32 `[T, P]`, `steps` int64 `[T]`, `accuracy` float32 `[T]`,
`velocity` `[P]`; metadata with the key, the seed and a sha256 a row of `theta`, so that a few rows can be read.
`recipe.json` stands beside them. Files are written whole (temporary name and rename), so many writers can share a
store; a trajectory that is too short is continued from its last snapshot, never repeated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dd.base.files import (
    digest,
    json_text,
    load_tensors,
    packed_size,
    read_json,
    read_meta,
    read_rows,
    save_tensors,
    sweep,
    write_json,
)
from dd.base.locks import locked
from dd.base.parallel import barrier, meet, shard
from dd.base.paths import is_there, names_in
from dd.base.process import under_own_settings
from dd.base.progress import Progress, silent
from dd.base.schema import conform
from dd.base.shapes import check, check_whole
from dd.data import Images
from dd.errors import DamagedError, MissingError, refuse
from dd.experts.fast import Road, long_enough
from dd.experts.recipe import FORMAT, ExpertRecipe
from dd.experts.train import ExpertTrainer, Snapshot, check_model, make_student
from dd.models import as_spec
from dd.transforms.whiten import Transform


class ExpertStore:
    """The trajectories of one recipe on one data set.

    Args:
        root: the folder of all stores.
        recipe: how the trajectories are made.
        real: the data set; its `fingerprint` is part of the key, and so are a mean and std that were given with it.
    """

    def __init__(self, root: str | Path, recipe: ExpertRecipe, real: Images) -> None:
        self.recipe, self._real = recipe, real
        self.key = recipe.key(real.fingerprint)
        self._roads: dict[str, Road] = {}
        self.folder = Path(root) / f"{recipe.name}-{self.key[:8]}"

    def path(self, seed: int) -> Path:
        """The file of expert `seed` = 0, 1, …"""
        return self.folder / f"{seed:05d}.safetensors"

    def length(self, seed: int) -> int:
        """Snapshots stored for expert `seed`, the initialisation included; 0 where there is no file."""
        if not is_there(self.path(seed)):
            return 0
        meta = self._meta(seed)
        return len(meta["rows"])

    def _meta(self, seed: int) -> dict[str, Any]:
        meta = read_meta(self.path(seed), "any")  # whose it is, and its version, are told first
        if meta.get("kind") != "expert" or meta.get("key") != self.key:
            raise DamagedError(
                f"{self.path(seed)} belongs to another recipe or data set (key {meta.get('key')}, expected "
                f"{self.key}). Move it away; it will be made anew."
            )
        if meta.get("format") != FORMAT:
            raise DamagedError(f"{self.path(seed)} has format {meta.get('format')}; this version reads {FORMAT}.")
        conform(meta, "expert", self.path(seed))
        if meta["seed"] != seed:
            raise DamagedError(f"{self.path(seed)} is not expert {seed} but {meta.get('seed')}. Move it away.")
        return meta

    def missing(self, experts: int, snapshots: int) -> list[int]:
        """Experts among 0…experts−1 that have fewer than `snapshots` snapshots after the initialisation."""
        return [seed for seed in range(experts) if self.length(seed) < snapshots + 1]

    @under_own_settings
    def read(self, seed: int, rows: Sequence[int]) -> list[Tensor]:
        """Snapshots θ `[P]` of one expert; only these rows are read, and each is checked against its sha256.

        Raises:
            MissingError: the expert or a snapshot is not in the store.
            DamagedError: a checksum does not match.
        """
        if not is_there(self.path(seed)):
            raise MissingError(f"no expert {seed} in {self.folder}. Run `dd.buffer`, or lower `experts`.")
        sums = self._meta(seed)["rows"]
        for row in rows:
            if not 0 <= row < len(sums):
                raise MissingError(
                    f"snapshot {row} of expert {seed} is not in {self.folder}, which has 0…{len(sums) - 1}. "
                    "Lower `max_start_epoch` or `expert_epochs`, or buffer more `snapshots`."
                )
        parts = read_rows(self.path(seed), "theta", rows)
        for row, part in zip(rows, parts, strict=True):
            if digest(part) != sums[row]:
                raise DamagedError(
                    f"snapshot {row} of {self.path(seed)} does not match its checksum. Remove the file; "
                    "`dd.buffer` makes it anew."
                )
        return parts

    @property
    def real(self) -> Images:
        """The data set."""
        return self._real

    @under_own_settings
    def put(self, seed: int, thetas: Tensor, steps: Tensor, accuracy: Tensor) -> None:
        """Store an expert that was trained elsewhere; its velocity is not known and is kept as zero.

        Args:
            seed: its number; nothing is done where exactly these snapshots are stored under it.
            thetas: float32 `[T, P]`, the initialisation first; T ≥ 2.
            steps: int64 `[T]`, optimiser steps of each snapshot.
            accuracy: float32 `[T]`, held out; NaN where it was not measured.

        Raises:
            InputError: a snapshot that repeats another, or another expert is stored under `seed`.
        """
        check(thetas, "thetas", "T P")
        sums = [digest(row) for row in thetas]
        if len(thetas) < 2:
            raise refuse("thetas", "at least two snapshots", len(thetas))
        if len(set(sums)) < len(sums):
            way_out = "They were kept without a copy (on a CPU `.cpu()` is none): buffer that expert anew."
            got = f"{len(set(sums))} different ones of {len(sums)}"
            raise refuse(f"snapshots of expert {seed}", "all different", got, way_out)
        self._write_recipe()
        with locked(self.folder / f".{seed:05d}.lock", wait=True):
            if not is_there(self.path(seed)):
                rows = zip(steps.tolist(), thetas, accuracy.tolist(), strict=True)
                still = torch.zeros_like(thetas[0])
                self._save(seed, [Snapshot(step, theta, still, score) for step, theta, score in rows])
            elif self._meta(seed)["rows"] != sums:
                raise refuse("seed", "a number no other expert has", f"{seed}, which is in {self.folder}")

    @under_own_settings
    def curve(self, seed: int) -> tuple[Tensor, Tensor]:
        """(step numbers `[T]`, held-out accuracy `[T]`) of one expert."""
        tensors = _read(self.path(seed))
        return tensors["steps"], tensors["accuracy"]

    @under_own_settings
    def ensure(
        self,
        transform: Transform,
        *,
        experts: int | None = None,
        snapshots: int | None = None,
        device: torch.device | None = None,
        progress: Progress = silent,
        compile: bool | None = None,
        only: int | None = None,
    ) -> list[int]:
        """Make what is missing and return the seeds that were worked on by this process.

        Under torchrun the missing experts are shared out by rank. An interrupted expert keeps its snapshots.

        Args:
            transform: pixels → model space.
            experts, snapshots: how many; the recipe's by default.
            device: where to train.
            progress: called after every snapshot.
            compile: whether to compile the loss of a plain ConvNet; None where all experts together are long
                enough to pay for it. An expert that is continued keeps its road, whatever is said here; a
                compiled one has `road` in its file's metadata.
            only: make this one of them alone, and none of the others.

        Raises:
            InputError: a network that cannot be a student, see `dd.experts.check_model`.
            DivergedError: an expert is not finite.
            MissingError: under torchrun, a process that never came, or ended before the others.
        """
        experts = self.recipe.experts if experts is None else experts
        snapshots = self.recipe.snapshots if snapshots is None else snapshots
        check_whole(experts, "experts")
        check_whole(snapshots, "snapshots")
        device = device or torch.device("cpu")
        check_model(self.recipe, self._real, device)
        meet()
        absent = set(self.missing(experts, snapshots))
        mine = [seed for seed in shard(range(experts)) if seed in absent and only in (None, seed)]
        if mine:
            self._write_recipe()
            trainer = ExpertTrainer(self.recipe, self._real, transform, device)
            images = experts * snapshots * trainer.stride * self.recipe.batch_size
            if compile is None:
                student = make_student(self.recipe, self._real, 0, autocast=trainer.autocast)
                compile = long_enough(student, images, self._real.size, device.type)
            trainer.road = Road(compile, self.recipe.batch_size)
            total = sum(snapshots + 1 - self.length(seed) for seed in mine)
            done, busy = 0, list[int]()
            for wait, seeds in ((False, mine), (True, busy)):  # what another process works on comes last
                for seed in seeds:
                    with locked(self.folder / f".{seed:05d}.lock", wait=wait) as free:
                        if free:
                            done = self._extend(trainer, seed, snapshots, done, total, progress)
                        else:
                            busy.append(seed)
        barrier()
        return mine

    def _other_road(self, name: str) -> Road:
        """The road of an expert that was begun on another one; made once, since compiling takes its time."""
        if name not in self._roads:
            self._roads[name] = Road(name == "compiled", self.recipe.batch_size)
        return self._roads[name]

    def _extend(
        self, trainer: ExpertTrainer, seed: int, snapshots: int, done: int, total: int, progress: Progress
    ) -> int:
        """Train expert `seed` up to `snapshots`; what an interruption leaves is kept."""
        found = self._load(seed) if is_there(self.path(seed)) else []
        usual, known = trainer.road, str(self._meta(seed).get("road", "eager")) if found else None
        if known is not None and known != usual.name:
            trainer.road = self._other_road(known)
        before = len(found)
        try:
            wanted = max(0, snapshots + 1 - before)
            for snapshot in islice(trainer.snapshots(seed, found[-1] if found else None), wanted):
                found.append(snapshot)
                done += 1
                progress(done, total, f"expert {seed}, accuracy {found[-1].accuracy:.3f}")
        finally:
            if len(found) > max(before, 1):
                road = trainer.road.name
                self._save(seed, found, road if known in (None, road) else "mixed")
            trainer.road = usual
        return done

    def _load(self, seed: int) -> list[Snapshot]:
        tensors = _read(self.path(seed))
        rows = zip(tensors["steps"].tolist(), tensors["theta"], tensors["accuracy"].tolist(), strict=True)
        return [Snapshot(step, theta, tensors["velocity"], accuracy) for step, theta, accuracy in rows]

    def _save(self, seed: int, found: Sequence[Snapshot], road: str = "eager") -> None:
        sweep(self.folder, re.escape(self.path(seed).name))
        theta = torch.stack([s.theta for s in found])
        tensors = {
            "theta": theta,
            "steps": torch.tensor([s.step for s in found]),
            "accuracy": torch.tensor([s.accuracy for s in found], dtype=torch.float32),
            "velocity": found[-1].velocity,
        }
        save_tensors(self.path(seed), tensors, self._describe(seed, [digest(row) for row in theta], road))

    def _describe(self, seed: int, rows: Sequence[str], road: str) -> dict[str, Any]:
        """The metadata of expert `seed`, with sha256 a row of θ."""
        meta = {
            "kind": "expert",
            "format": FORMAT,
            "key": self.key,
            "seed": seed,
            "model": str(as_spec(self.recipe.model)),
            "rows": list(rows),
        }
        return meta if road == "eager" else {**meta, "road": road}

    def size_on_disk(self, experts: int, snapshots: int, parameters: int, road: str = "eager") -> int:
        """Bytes that the store takes with so many experts of so many snapshots after the initialisation.

        Args:
            experts, snapshots: how many.
            parameters: P.
            road: `eager` or `compiled`.
        """
        length, sha = snapshots + 1, digest(b"")
        shapes = {
            "theta": (torch.float32, (length, parameters)),
            "steps": (torch.int64, (length,)),
            "accuracy": (torch.float32, (length,)),
            "velocity": (torch.float32, (parameters,)),
        }
        files = (packed_size(shapes, self._describe(seed, [sha] * length, road)) for seed in range(experts))
        return sum(files) + len(json_text(self._about()).encode())

    def _about(self) -> dict[str, Any]:
        return {"key": self.key, "data": self._real.fingerprint, "recipe": self.recipe.describe()}

    def _write_recipe(self) -> None:
        path = self.folder / "recipe.json"
        if is_there(path):
            return
        with locked(self.folder / ".recipe.lock", wait=True, keep=False):
            sweep(self.folder, r"recipe\.json")
            if not is_there(path):
                write_json(path, self._about())


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors of an expert's file: T snapshots, and what is known of each."""
    tensors, meta = load_tensors(path, "expert")
    theta, length = tensors.get("theta"), len(meta["rows"])
    wanted = {"theta": (torch.float32, 2), "steps": (torch.int64, 1), "accuracy": (torch.float32, 1)}
    fits = all(
        name in tensors and (tensors[name].dtype, tensors[name].ndim, len(tensors[name])) == (*kind, length)
        for name, kind in wanted.items()
    )
    if theta is None or not fits or set(tensors) != {*wanted, "velocity"}:
        raise DamagedError(f"{path} is no expert of {length} snapshots. Remove it; `dd.buffer` makes it anew.")
    if tensors["velocity"].shape != theta[0].shape or bool((tensors["steps"].diff() < 0).any()):
        what = "a velocity of other parameters, or steps that fall"
        raise DamagedError(f"{path} has {what}. Remove it; `dd.buffer` makes it anew.")
    return tensors


def verify_folder(folder: Path) -> int:
    """Check every row of every expert in a store's folder; returns how many experts are there.

    Raises:
        DamagedError: a file that does not match its checksums.
    """
    count = 0
    read_json(folder / "recipe.json", "experts")
    for path in names_in(folder, "*.safetensors"):
        _read(path)
        count += 1
    return count
