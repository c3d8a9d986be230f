"""Squeeze: teachers trained on the real set, kept under a hash of data, model and recipe, tried before they teach."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.base.devices import moved
from dd.base.files import dump_json, load_tensors, save_tensors, sweep
from dd.base.locks import locked
from dd.base.names import file_name
from dd.base.parallel import crew, training_group
from dd.base.paths import is_there
from dd.base.schema import conform
from dd.base.seeding import child, child_seed, isolated
from dd.base.shapes import check_number, check_types, check_whole
from dd.data import Images
from dd.errors import DamagedError, DDError, DivergedError, InputError, MissingError, refuse
from dd.models import as_spec, build
from dd.teachers.teacher import Teacher, accuracy, tried_on
from dd.transforms.dsa import DSA
from dd.transforms.whiten import Normalise

FORMAT = 1

Progress = Callable[[int, int, str], None]
"""(done, total, text) → None."""


def _silent(done: int, total: int, text: str) -> None:
    del done, total, text


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """How a teacher is trained on the real training images.

    Attributes:
        model: a name, `tv:NAME`, `timm:NAME`, a `ModelSpec` text; recovery needs batch norms.
        epochs, batch_size: of training; the last batch of an epoch may be short, and is left out where it is one image
            a rank.
        min_steps: optimiser steps that a teacher has at least, whatever `epochs` says: of a hundred images an epoch is
            one step, and ten leave a teacher half-taught. Digits, ten images a class, `convnet(norm=batch)`: 67 % of
            the test images after 10 steps, 82 % after 30, 90 % after 100, 91 % after 200 and 90 % after 400.
        optimizer, lr, momentum, weight_decay: `sgd` (with Nesterov's off) or `adam`; lr falls by a cosine to 0, a step
            at a time.
        augment, augment_mode: DSA strategy.
        ranks: processes of a torchrun that train it as one (DDP), for teachers that are too much for one GPU: each
            takes its share of every batch, and gradients are averaged. Batch norms see the share. It is part of the
            key, since bytes depend on it. 1: each teacher is made by one process.
        mean, std: constants of the normalisation, one a channel, for pixels in [0, 1]; `None` for the data's. They stay
            with the teacher, and are the model space of the sets that it makes: published teachers differ in them.

    Raises:
        InputError: a field out of range, an unknown model or augmentation.
    """

    model: str = "convnet(norm=batch)"
    epochs: int = 10
    min_steps: int = 100
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: str = "crop_flip"
    augment_mode: Literal["single", "all"] = "all"
    ranks: int = 1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "min_steps", "batch_size", "ranks"):
            check_whole(getattr(self, name), name)
        for name in ("lr", "momentum", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0)
        check_types(self)
        if self.batch_size < 2 * self.ranks:
            each = "" if self.ranks == 1 else f" on each of {self.ranks} ranks"
            raise refuse("batch_size", f"at least {2 * self.ranks}, for batch norms{each}", self.batch_size)
        if not self.lr > 0:
            raise refuse("lr", "positive", self.lr)
        if not self.momentum < 1:
            raise refuse("momentum", "in [0, 1)", self.momentum)
        if self.optimizer not in ("sgd", "adam"):
            raise refuse("optimizer", "`sgd` or `adam`", repr(self.optimizer))
        as_spec(self.model)
        self.dsa()
        if (self.mean is None) != (self.std is None):
            raise refuse("mean, std", "both or neither", "one of them")
        if self.mean is not None and self.std is not None:
            own = Normalise(_constants(self.mean, "mean"), _constants(self.std, "std"))
            object.__setattr__(self, "mean", own.mean)
            object.__setattr__(self, "std", own.std)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values; `ranks` where there are several."""
        fields = dataclasses.asdict(self)
        if self.ranks == 1:
            del fields["ranks"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def transform(self, real: Images) -> Normalise:
        """The normalisation of its teachers: its own constants, or the data's.

        Raises:
            InputError: constants of another number of channels.
        """
        if self.mean is None or self.std is None:
            return Normalise(mean=tuple(real.mean), std=tuple(real.std))
        if len(self.mean) != real.channels:
            raise refuse("teacher.mean", f"{real.channels} numbers, one a channel", len(self.mean))
        return Normalise(mean=self.mean, std=self.std)

    def per_epoch(self, images: int) -> int:
        """Optimiser steps an epoch of so many images."""
        whole, rest = divmod(images, self.batch_size)
        return whole + (rest >= 2 * self.ranks or not whole)

    def rounds(self, images: int) -> int:
        """Epochs of so many images: `epochs`, or as many as `min_steps` takes."""
        return max(self.epochs, -(-self.min_steps // self.per_epoch(images)))

    def dsa(self) -> DSA:
        """The augmentation of its training."""
        return DSA(strategy=self.augment, mode=self.augment_mode)

    def key(self, data: str, seed: int = 0) -> str:
        """16 hex digits over every field, the data's hash, the seed and the format version."""
        fields = {**self.to_json(), "model": as_spec(self.model).key}
        text = dump_json({"recipe": fields, "data": data, "seed": seed, "format": FORMAT})
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _constants(given: object, argument: str) -> tuple[float, ...]:
    """Numbers as a tuple, or refuse what is none."""
    if not isinstance(given, list | tuple) or not given:
        raise refuse(argument, "numbers, one a channel", repr(given))
    return tuple(check_number(value, argument) for value in given)


def _network(recipe: TeacherRecipe, real: Images, seed: int) -> nn.Module:
    """The recipe's network for this data, not trained."""
    return build(recipe.model, channels=real.channels, classes=real.num_classes, size=real.size, seed=seed)


def train_teacher(
    recipe: TeacherRecipe,
    real: Images,
    transform: Normalise,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress = _silent,
) -> nn.Module:
    """A network trained on `real.train` by the recipe, in eval mode; one of several ranks by all of `crew` at once.

    Raises:
        DivergedError: loss or weights are not finite.
        InputError: a recipe for another number of ranks.
    """
    device, (rank, size) = device or torch.device("cpu"), crew() if recipe.ranks > 1 else (0, 1)
    if size != recipe.ranks:
        _wrong_ranks(recipe, size)
    net = _network(recipe, real, child_seed(seed, "teacher")).to(device)
    if size == 1:
        return _train(net, net, recipe, real, transform, seed, device, progress, slice(None))
    with training_group(device.type) as group:
        place = [device.index or 0] if device.type == "cuda" else None
        whole = nn.parallel.DistributedDataParallel(net, device_ids=place, process_group=group)
        return _train(whole, net, recipe, real, transform, seed, device, progress, slice(rank, None, size), group)


def _wrong_ranks(recipe: TeacherRecipe, size: int) -> NoReturn:
    there = f"{size} processes" if size > 1 else "one process"
    way_out = f"Start it by `torchrun --nproc-per-node {recipe.ranks} -m dd …`; later calls find it in the store."
    raise refuse("teacher.ranks", f"what trains teacher {recipe.model}, {there}", recipe.ranks, way_out)


def _train(
    call: nn.Module,
    net: nn.Module,
    recipe: TeacherRecipe,
    real: Images,
    transform: Normalise,
    seed: int,
    device: torch.device,
    progress: Progress,
    own: slice,
    group: Any = None,
) -> nn.Module:
    """Train `net` by calls of `call`, on the rows `own` of every batch.

    Losses are weighed so that their mean over ranks is that of the batch.
    """
    net.train()
    kind = torch.optim.SGD if recipe.optimizer == "sgd" else torch.optim.Adam
    more: dict[str, Any] = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    optimizer = kind(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, **more)
    dsa, count = recipe.dsa(), len(real.train)
    per_epoch, epochs = recipe.per_epoch(count), recipe.rounds(count)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)

    def batches() -> Iterator[Tensor]:
        for epoch in range(epochs):
            order = torch.randperm(count, generator=child(seed, "teacher", "order", epoch))
            yield from (rows[own] for rows in order.split(recipe.batch_size)[:per_epoch])

    with isolated(seed, "teacher", "layers", *([own.start] if group else []), device=device):  # dropout draws from it
        for step, (rows, pixels) in enumerate(real.train.stream(batches())):
            epoch, place = divmod(step, per_epoch)
            whole = min(recipe.batch_size, count - place * recipe.batch_size)
            draw = dsa.draw(whole, real.size, child(seed, "teacher", "draw", epoch, place))
            x = (draw.rows(own) if group else draw)(transform.forward(moved(pixels, device)))
            loss = F.cross_entropy(call(x), moved(real.train.labels[rows], device))
            loss = loss * (len(rows) * recipe.ranks / whole) if group else loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if place + 1 < per_epoch:
                continue
            if not _all_finite((loss, *net.parameters(), *net.buffers()), group):
                raise DivergedError(
                    f"teacher {recipe.model} is not finite after {epoch + 1} epoch(s). Lower `lr` (now {recipe.lr:g})."
                )
            progress(epoch + 1, epochs, f"teacher {recipe.model}, loss {float(loss.detach()):.3f}")
    return net.eval()


def _all_finite(tensors: Sequence[Tensor], group: Any) -> bool:
    """Whether all are, on all ranks."""
    found = all(bool(torch.isfinite(t).all()) for t in tensors)
    if group is None:
        return found
    import torch.distributed as dist

    told = torch.tensor(int(found), device=tensors[0].device)
    dist.all_reduce(told, dist.ReduceOp.MIN, group)
    return bool(told)


def _agreed(value: Any, group: Any) -> Any:
    """What rank 0 says."""
    import torch.distributed as dist

    told = [value]
    dist.broadcast_object_list(told, src=0, group=group)
    return told[0]


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
        self, recipes: Sequence[TeacherRecipe], *, device: torch.device | None = None, progress: Progress = _silent
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
        self, recipes: Sequence[TeacherRecipe], *, device: torch.device | None = None, progress: Progress = _silent
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
                    if not _agreed(is_there(path), group):
                        self._make_as_one(path, recipe, device, progress, group)

    def _make_as_one(
        self, path: Path, recipe: TeacherRecipe, device: torch.device | None, progress: Progress, group: Any
    ) -> None:
        """One teacher by the whole crew."""
        if recipe.ranks != crew()[1]:
            _wrong_ranks(recipe, crew()[1])
        net = train_teacher(recipe, self.real, recipe.transform(self.real), device=device, progress=progress)
        failed = ""
        if crew()[0] == 0:
            try:
                self._keep(path, recipe.key(self.real.fingerprint, 0), recipe, 0, net)
            except DDError as error:
                failed = f"rank 0: {error}"
                _agreed(failed, group)
                raise
        if told := _agreed(failed, group):
            raise MissingError(str(told))

    def get(
        self,
        recipe: TeacherRecipe,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        progress: Progress = _silent,
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
        net = _network(recipe, self.real, 0)
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
            _wrong_ranks(recipe, 1)
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
