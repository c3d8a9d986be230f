"""Squeeze: teachers trained on the real set, kept under a hash of data, model and recipe, tried before they teach."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.augment import DSA
from dd.data import Images, Split
from dd.errors import DamagedError, DivergedError, InputError, refuse
from dd.files import digest, dump_json, load_tensors, locked, save_tensors
from dd.models import as_spec, build
from dd.seeding import child, child_seed, isolated
from dd.shapes import check_number, check_whole
from dd.whiten import Normalise

FORMAT = 1
_CHECKED: Final = 200  # real images that a teacher is tried on
_TEST_BATCH: Final = 500

Progress = Callable[[int, int, str], None]
"""(done, total, text) → None."""


def _silent(done: int, total: int, text: str) -> None:
    del done, total, text


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """How a teacher is trained on the real training images.

    Attributes:
        model: a name, `tv:NAME`, `timm:NAME`, a `ModelSpec` text; recovery needs batch norms.
        epochs, batch_size: of training; the last batch of an epoch may be short, and is left out where it is one image.
        optimizer, lr, momentum, weight_decay: `sgd` (with Nesterov's off) or `adam`; lr falls by a cosine to 0, a step
            at a time.
        augment, augment_mode: DSA strategy.

    Raises:
        InputError: a field out of range, an unknown model or augmentation.
    """

    model: str = "convnet(norm=batch)"
    epochs: int = 10
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: str = "crop_flip"
    augment_mode: Literal["single", "all"] = "all"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check_whole(getattr(self, name), name)
        for name in ("lr", "momentum", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0)
        if self.batch_size < 2:
            raise refuse("batch_size", "at least 2, for batch norms", self.batch_size)
        if not self.lr > 0:
            raise refuse("lr", "positive", self.lr)
        if not self.momentum < 1:
            raise refuse("momentum", "in [0, 1)", self.momentum)
        if self.optimizer not in ("sgd", "adam"):
            raise refuse("optimizer", "`sgd` or `adam`", repr(self.optimizer))
        as_spec(self.model)
        self.dsa()

    def dsa(self) -> DSA:
        """The augmentation of its training."""
        return DSA(strategy=self.augment, mode=self.augment_mode)

    def key(self, data: str, seed: int = 0) -> str:
        """16 hex digits over every field, the data's hash, the seed and the format version."""
        fields = {**dataclasses.asdict(self), "model": as_spec(self.model).key}
        text = dump_json({"recipe": fields, "data": data, "seed": seed, "format": FORMAT})
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen network in eval mode with the normalisation that it was trained with.

    Attributes:
        name: for people.
        module: `[n, C, H, W]` in its own model space → logits `[n, K]`.
        transform: pixels in [0, 1] → its model space; it belongs to the teacher, never to the data.
        accuracy: on held-out training images, a fraction; NaN where it was not measured.
        sha256: of its parameters and buffers.
        class_ids: which of the module's outputs are the classes of the data, in their order; `None` for all.

    Raises:
        InputError: class ids that repeat.
    """

    name: str
    module: nn.Module
    transform: Normalise
    accuracy: float = math.nan
    sha256: str = ""
    class_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.class_ids is not None and len(set(self.class_ids)) < len(self.class_ids):
            raise refuse("class_ids", "different numbers, one a class", self.class_ids)
        self.module.eval().requires_grad_(False)
        if not self.sha256:
            object.__setattr__(self, "sha256", weights_digest(self.module))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits `[n, K]` of pixels `[n, C, H, W]` in [0, 1]."""
        scores: Tensor = self.module(self.transform.forward(pixels))
        if self.class_ids is None:
            return scores
        if max(self.class_ids) >= scores.shape[1]:
            raise refuse("class_ids", f"below {scores.shape[1]}, the outputs of {self.name}", max(self.class_ids))
        return scores[:, list(self.class_ids)]

    def as_module(self) -> nn.Module:
        """Pixels in [0, 1] → logits, as one module in eval mode."""
        return _OnPixels(self).eval()

    def check(self, split: Split, classes: int) -> float:
        """Its accuracy on at most 200 images of `split`, evenly spaced.

        Raises:
            InputError: another number of classes, the same answer for every image, or no better than chance by two
                standard errors: another class order or other constants than those it was trained with.
        """
        rows = torch.linspace(0, len(split) - 1, min(_CHECKED, len(split))).round().long()
        device = next(self.module.parameters()).device
        with torch.no_grad():
            scores = self(split.pixels(rows).to(device)).cpu()
        if scores.ndim != 2 or scores.shape[1] != classes:
            raise refuse(f"teacher {self.name}", f"of {classes} classes", list(scores.shape[1:]))
        if not bool(torch.isfinite(scores).all()):
            raise InputError(f"teacher {self.name} gives scores that are not finite. Train it anew.")
        guesses = scores.argmax(1)
        right = float((guesses == split.labels[rows]).double().mean())
        chance = 1 / classes
        if right < chance + 2 * math.sqrt(chance * (1 - chance) / len(rows)):
            kinds = len(guesses.unique())
            raise InputError(
                f"teacher {self.name} classifies {100 * right:.1f} % of {len(rows)} real images, no better than chance "
                f"({100 * chance:.1f} %), with {kinds} different answer(s). Its class order or its mean and std are "
                "not those of this data: give `class_ids`, or the transform it was trained with."
            )
        return right


class _OnPixels(nn.Module):
    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.net, self._teacher = teacher.module, teacher  # its network is a part of this one

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of pixels in [0, 1]."""
        return self._teacher(pixels)


def weights_digest(module: nn.Module) -> str:
    """sha256 hex over names and bytes of all parameters and buffers."""
    state = module.state_dict()
    text = dump_json({name: digest(value) for name, value in state.items()})
    return hashlib.sha256(text.encode()).hexdigest()


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
    """A network trained on `real.train` by the recipe, in eval mode.

    Raises:
        DivergedError: loss or weights are not finite.
    """
    device = device or torch.device("cpu")
    net = _network(recipe, real, child_seed(seed, "teacher")).to(device)
    net.train()
    kind = torch.optim.SGD if recipe.optimizer == "sgd" else torch.optim.Adam
    own: dict[str, Any] = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    optimizer = kind(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, **own)
    dsa, count = recipe.dsa(), len(real.train)
    batches = [len(part) for part in torch.arange(count).split(recipe.batch_size)]
    per_epoch = len(batches) - (len(batches) > 1 and batches[-1] < 2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * per_epoch)
    with isolated(seed, "teacher", "layers"):  # dropout takes the global stream
        for epoch in range(recipe.epochs):
            order = torch.randperm(count, generator=child(seed, "teacher", "order", epoch))
            for place, rows in enumerate(order.split(recipe.batch_size)[:per_epoch]):
                draw = dsa.draw(len(rows), real.size, child(seed, "teacher", "draw", epoch, place))
                x = draw(transform.forward(real.train.pixels(rows).to(device)))
                loss = F.cross_entropy(net(x), real.train.labels[rows].to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
            if not all(bool(torch.isfinite(t).all()) for t in (loss, *net.parameters(), *net.buffers())):
                raise DivergedError(
                    f"teacher {recipe.model} is not finite after {epoch + 1} epoch(s). Lower `lr` (now {recipe.lr:g})."
                )
            progress(epoch + 1, recipe.epochs, f"teacher {recipe.model}, loss {float(loss.detach()):.3f}")
    return net.eval()


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
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in str(as_spec(recipe.model))).strip("-")
        return self.root / f"{name}-{recipe.key(self.real.fingerprint, seed)[:8]}.safetensors"

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
            InputError: see `Teacher.check`.
        """
        path, key = self.path(recipe, seed), recipe.key(self.real.fingerprint, seed)
        with locked(path.with_name(f".{path.stem}.lock"), wait=True):
            if not path.exists():
                self._make(path, key, recipe, seed, device, progress)
        tensors, meta = load_tensors(path)
        if (meta.get("kind"), meta.get("format"), meta.get("key")) != ("teacher", FORMAT, key):
            raise DamagedError(f"{path} is not teacher {key} of format {FORMAT}. Move it away; it will be made anew.")
        net = _network(recipe, self.real, 0)
        net.load_state_dict(tensors)
        if weights_digest(net) != meta["sha256"]:
            raise DamagedError(f"the weights in {path} do not match their checksum. Remove it; it will be made anew.")
        transform = Normalise(mean=tuple(meta["mean"]), std=tuple(meta["std"]))
        target = device or torch.device("cpu")
        known = math.nan if meta["accuracy"] is None else meta["accuracy"]
        return Teacher(str(as_spec(recipe.model)), net.to(target), transform, known, meta["sha256"])

    def _make(
        self,
        path: Path,
        key: str,
        recipe: TeacherRecipe,
        seed: int,
        device: torch.device | None,
        progress: Progress,
    ) -> None:
        transform = Normalise(mean=tuple(self.real.mean), std=tuple(self.real.std))
        net = train_teacher(recipe, self.real, transform, seed=seed, device=device, progress=progress).cpu()
        held_out = self.real.val if self.real.val is not None and len(self.real.val) else None
        teacher = Teacher(str(as_spec(recipe.model)), net, transform)
        teacher.check(held_out or self.real.train, self.real.num_classes)
        meta = {
            "kind": "teacher",
            "format": FORMAT,
            "key": key,
            "recipe": {**dataclasses.asdict(recipe), "model": str(as_spec(recipe.model))},
            "seed": seed,
            "mean": list(transform.mean),
            "std": list(transform.std),
            "accuracy": None if held_out is None else accuracy(teacher, held_out),
            "sha256": teacher.sha256,
        }
        save_tensors(path, {k: v.contiguous() for k, v in net.state_dict().items()}, meta)


@torch.no_grad()
def accuracy(teacher: Teacher, split: Split) -> float:
    """Share of `split` that the teacher classifies correctly."""
    device, right = next(teacher.module.parameters()).device, 0
    for rows in torch.arange(len(split)).split(_TEST_BATCH):
        right += int((teacher(split.pixels(rows).to(device)).argmax(1).cpu() == split.labels[rows]).sum())
    return right / len(split)
