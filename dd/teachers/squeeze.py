"""Squeeze: teachers trained on the real set, kept under a hash of data, model and recipe, tried before they teach."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dd.base.files import load_tensors, save_tensors, sweep
from dd.base.locks import locked
from dd.base.names import file_name
from dd.base.parallel import crew, training_group
from dd.base.paths import is_there
from dd.base.progress import Progress, silent
from dd.base.schema import conform
from dd.data import Images
from dd.errors import DamagedError, DDError, InputError, MissingError
from dd.models import as_spec
from dd.teachers.recipe import FORMAT, TeacherRecipe
from dd.teachers.teacher import Teacher, accuracy, tried_on
from dd.teachers.train import agreed, network, train_teacher, wrong_ranks
from dd.transforms.whiten import Normalise


class TeacherStore:
    """Teachers on disk: `<root>/<model>-<key8>.safetensors`, each trained once.

    Args:
        root: the folder.
        real: the data; its `fingerprint` is part of the key.
    """

    def __init__(self, root: Path, real: Images) -> None:
        self.root, self.real = root, real

    def path(self, recipe: TeacherRecipe, seed: int = 0) -> Path:
        """The file of a teacher."""
        return (
            self.root
            / f"{file_name(str(as_spec(recipe.model)))}-{recipe.key(self.real.fingerprint, seed)[:8]}.safetensors"
        )

    def has(self, recipe: TeacherRecipe, seed: int = 0) -> bool:
        """Whether the teacher is there."""
        return is_there(self.path(recipe, seed))

    def make_missing(
        self, recipes: Sequence[TeacherRecipe], *, device: torch.device | None = None, progress: Progress = silent
    ) -> None:
        """Train those that are missing and nobody is training; so several processes that want the same share them.

        Raises:
            DivergedError, InputError: see `get`.
        """
        for recipe in recipes:
            path = self.path(recipe)
            if not is_there(path):
                with locked(path.with_name(f".{path.stem}.lock")) as free:
                    if free and not is_there(path):
                        self._make(path, recipe.key(self.real.fingerprint, 0), recipe, 0, device, progress)

    def make_together(
        self, recipes: Sequence[TeacherRecipe], *, device: torch.device | None = None, progress: Progress = silent
    ) -> None:
        """Train those that are missing and want the whole crew; every rank calls it, and rank 0 writes.

        Raises:
            DivergedError, InputError: see `get`; on every rank.
            MissingError: rank 0 failed in another way.
        """
        rank, size = crew()
        wanted = [recipe for recipe in recipes if recipe.ranks > 1]
        if size == 1 or not wanted:
            return
        with training_group("cpu") as group:
            for recipe in wanted:
                path = self.path(recipe)
                with locked(path.with_name(f".{path.stem}.lock"), wait=True) if rank == 0 else nullcontext():
                    if not agreed(is_there(path), group):
                        self._make_as_one(path, recipe, device, progress, group)

    def _make_as_one(
        self, path: Path, recipe: TeacherRecipe, device: torch.device | None, progress: Progress, group: Any
    ) -> None:
        """One teacher by the whole crew."""
        if recipe.ranks != crew()[1]:
            wrong_ranks(recipe, crew()[1])
        net = train_teacher(recipe, self.real, recipe.transform(self.real), device=device, progress=progress)
        failed = ""
        if crew()[0] == 0:
            try:
                self._keep(path, recipe.key(self.real.fingerprint, 0), recipe, 0, net)
            except DDError as error:
                failed = f"rank 0: {error}"
                agreed(failed, group)
                raise
        if told := agreed(failed, group):
            raise MissingError(str(told))

    def get(
        self,
        recipe: TeacherRecipe,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        progress: Progress = silent,
    ) -> Teacher:
        """The teacher, trained where it is missing; two processes that want one train it once.

        Raises:
            DamagedError: a file of another key or format, or one whose weights do not match their checksum.
            DivergedError: see `train_teacher`.
            InputError: a teacher that has learnt nothing, see `Teacher.check`.
        """
        path, key = self.path(recipe, seed), recipe.key(self.real.fingerprint, seed)
        with locked(path.with_name(f".{path.stem}.lock"), wait=True):
            if not is_there(path):
                self._make(path, key, recipe, seed, device, progress)
        tensors, meta = load_tensors(path, "any")  # whose it is, and its version, are told first
        if (meta.get("kind"), meta.get("format"), meta.get("key")) != ("teacher", FORMAT, key):
            raise DamagedError(f"{path} is not teacher {key} of format {FORMAT}. Move it away; it will be made anew.")
        conform(meta, "teacher", path)
        net = network(recipe, self.real, 0)
        try:
            net.load_state_dict(tensors)
            transform = Normalise(mean=tuple(meta["mean"]), std=tuple(meta["std"]))
        except (RuntimeError, KeyError, TypeError, InputError) as error:
            why = str(error).partition("\n")[0]
            raise DamagedError(
                f"{path} does not hold this teacher ({why}). Remove it; it will be made anew."
            ) from error
        target = device or torch.device("cpu")
        known = math.nan if meta["accuracy"] is None else meta["accuracy"]
        return Teacher(str(as_spec(recipe.model)), net.to(target), transform, known, meta["sha256"])

    def _lesson(self, recipe: TeacherRecipe) -> str:
        """What is said of a teacher of the recipe that has learnt nothing."""
        count = len(self.real.train)
        steps = recipe.rounds(count) * recipe.per_epoch(count)
        return (
            f"It was trained here, for {steps:,} steps on {count:,} images: give more `epochs` or `min_steps`, another "
            f"`lr` (now {recipe.lr:g}) or another model."
        )

    def _make(
        self,
        path: Path,
        key: str,
        recipe: TeacherRecipe,
        seed: int,
        device: torch.device | None,
        progress: Progress,
    ) -> None:
        if recipe.ranks > 1:
            wrong_ranks(recipe, 1)
        transform = recipe.transform(self.real)
        net = train_teacher(recipe, self.real, transform, seed=seed, device=device, progress=progress)
        self._keep(path, key, recipe, seed, net)

    def _keep(self, path: Path, key: str, recipe: TeacherRecipe, seed: int, net: nn.Module) -> None:
        """Try a teacher, and write it."""
        sweep(path.parent, re.escape(path.name))
        net, transform = net.cpu(), recipe.transform(self.real)
        held_out = self.real.val if self.real.val is not None and len(self.real.val) else None
        teacher = Teacher(str(as_spec(recipe.model)), net, transform)
        tried = tried_on(self.real)
        teacher.check(tried, self.real.num_classes, self._lesson(recipe))
        if held_out is not None and tried is not held_out:
            teacher.warn_by_heart(held_out, self.real.num_classes)
        meta = {
            "kind": "teacher",
            "format": FORMAT,
            "key": key,
            "recipe": {**recipe.to_json(), "model": str(as_spec(recipe.model))},
            "seed": seed,
            "mean": list(transform.mean),
            "std": list(transform.std),
            "accuracy": None if held_out is None else accuracy(teacher, held_out),
            "sha256": teacher.sha256,
        }
        save_tensors(path, {k: v.contiguous() for k, v in net.state_dict().items()}, meta)
