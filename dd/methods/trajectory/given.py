"""Trajectory matching that starts from a set: what is taken of it, and which sets a run can start from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, final

from torch import Tensor

from dd.base.paths import is_there
from dd.base.texts import shown
from dd.data import Images
from dd.errors import MissingError, near, refuse
from dd.synthetic import AnySet, CompensatedImages, SyntheticImages, digest_of, set_at
from dd.transforms.whiten import Normalise, Transform

if TYPE_CHECKING:
    from dd.methods.trajectory.matching import TrajectoryMatching

Word = Literal["real", "noise", "representative", "correct"]
WORDS: Final[tuple[Word, ...]] = ("real", "noise", "representative", "correct")
_LEAST: Final = 1e-12
"""A probability of 0 as a logit."""


@final
@dataclass(frozen=True)
class GivenSet:
    """A set to start from; a description tells it by name and hash, wherever it lies.

    Attributes:
        set: name of the method that made it.
        sha256: `dd.synthetic.digest_of` it.
        small: the set.
    """

    set: str
    sha256: str
    small: SyntheticImages = field(repr=False, compare=False)

    def describe(self) -> dict[str, str]:
        """Without the set."""
        return {"set": self.set, "sha256": self.sha256}


Init = Word | str | Path | SyntheticImages | GivenSet
"""What `init` may be: a word, or a set, its file or its run folder."""


def given_init(value: object) -> Word | GivenSet:
    """`init` as the loop reads it.

    Raises:
        InputError: neither a word, nor a set of images or its path; or a set whose images share their parts, or whose
            labels are stored.
        MissingError, DamagedError: no set at the path, or one that cannot be read.
    """
    if isinstance(value, GivenSet):
        return value
    if isinstance(value, str) and value in WORDS:
        return value
    if isinstance(value, str | os.PathLike) and str(value):
        value = _read(Path(value))
    if not isinstance(value, AnySet):
        raise refuse("init", f"{', '.join(WORDS)}, or a set, its file or its run folder", shown(value))
    if not isinstance(value, SyntheticImages):
        what = (
            "compensated images, which share their parts"
            if isinstance(value, CompensatedImages)
            else "a summary of graphs"
        )
        raise refuse("init", "a set of images, each a tensor of its own", what)
    if value.store is not None:
        raise refuse(
            "init", "a set whose labels are one an image", "one with stored labels", "Give `init=small.hard()`."
        )
    return GivenSet(str(value.method.get("name")), digest_of(value), value.to("cpu"))


def _read(path: Path) -> AnySet:
    if not is_there(path):
        told = (
            f"`init` must be {', '.join(WORDS)}, or a set, its file or its run folder; there is no {path}. A run that "
            "began from a set goes on where the same set is given again: its hash counts, and not its path."
        )
        raise MissingError(f"{told} {near(str(path), WORDS)}".rstrip())
    return set_at(path)


def check_start(method: TrajectoryMatching, real: Images) -> None:
    """Refuse a set that the method cannot start from, before anything is trained or whitened.

    Raises:
        InputError: other classes, another shape, canvas, number of images a class, or model space; soft labels for a
            method whose labels are classes.
    """
    if not isinstance(method.init, GivenSet):
        return
    small = method.init.small
    numbers = tuple(map(str, range(real.num_classes)))
    known = (real.classes,) if set(numbers) == set(real.classes) else (real.classes, numbers)
    if small.classes not in known:
        way_out = "Where the order is the same, rename them: `dataclasses.replace(small, classes=real.classes)`."
        got = _few(small.classes)
        raise refuse("init", f"a set of the classes {_few(real.classes)}", f"{len(small.classes)}: {got}", way_out)
    shape, own = [real.channels, *real.size], [small.channels, *small.size]
    if own != shape:
        raise refuse("init", f"a set of images {shape}, like the data", own, f"Give `size={own[1]}`, or another set.")
    if small.canvas != method.canvas:
        way_out = f"Give `canvas={small.canvas}`."
        raise refuse("init", f"a set of canvas {method.canvas}, as `canvas` says", f"canvas {small.canvas}", way_out)
    theirs, ours = ({"factor": one.layout.factor, "mirror": one.layout.mirror} for one in (small, method))
    if theirs != ours:
        told, wanted = (", ".join(f"{name}={value}" for name, value in one.items()) for one in (theirs, ours))
        raise refuse("init", f"a set of {wanted}, as the method has them", f"one of {told}", f"Give `{told}`.")
    _check_space(method, small, real)
    _check_labels(method, small, real)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _check_space(method: TrajectoryMatching, small: SyntheticImages, real: Images) -> None:
    told, whiten = small.transform_record, method.expert.whiten
    if (told.get("kind") == "zca") != whiten:
        got = "a set that is " + ("not " if whiten else "") + "whitened"
        expected = "a whitened set, as `whiten=True` says" if whiten else "a set that is not whitened"
        raise refuse("init", expected, got, f"Give `whiten={not whiten}`, or another set.")
    if whiten and told.get("fitted_on") != real.train.fingerprint:
        way_out = "Give the data, `size` and `protocol` that it was made with, or another set."
        got = f"one of other images ({told.get('fitted_on')})"
        raise refuse("init", "a set whitened by these training images", got, way_out)
    if not whiten and small.transform is not None and not isinstance(small.transform, Normalise):
        raise refuse("init", "a set normalised by mean and std", str(told.get("kind")))


def _check_labels(method: TrajectoryMatching, small: SyntheticImages, real: Images) -> None:
    wanted, classes = method.ipc, real.num_classes
    if small.labels.ndim == 2:
        if method.labels == "hard":
            way_out = "Give `init=small.hard()`, or a method that learns labels: `datm`, or `labels='learned'`."
            raise refuse("init", "a set with classes for labels, as `labels='hard'` says", "soft labels", way_out)
        if (held := len(small.stored_images)) != wanted * classes:
            way_out = f"Give `ipc={held // classes}`." if held % classes == 0 else "Give another set."
            raise refuse("init", f"a set of {wanted * classes} images, ipc={wanted} for each class", held, way_out)
        return
    counts = small.stored_labels.bincount(minlength=classes)
    least, most = int(counts.min()), int(counts.max())
    if least == most == wanted:
        return
    if least == most:
        raise refuse("init", f"a set of ipc={wanted} images a class", least, f"Give `ipc={least}`.")
    way_out = "Images of each class must be equally many: leave some out, or add some by `dd.merge`."
    raise refuse("init", f"a set of ipc={wanted} images of each class", f"{least} to {most}", way_out)


def images_of(start: GivenSet, transform: Transform) -> tuple[Tensor, Tensor]:
    """(stored images in the run's model space, labels), in the order of the classes where labels are classes.

    The same normalisation: bit for bit. Another one: taken back to pixels, which are not cut, and normalised anew.
    """
    small = start.small
    images, labels = small.stored_images, small.stored_labels
    if isinstance(small.transform, Normalise) and small.transform != transform:
        images = transform.forward(small.transform.inverse(images))
    if labels.ndim == 2:
        return images, labels
    order = labels.argsort(stable=True)
    return images[order], labels[order]


def logits_of(probabilities: Tensor) -> Tensor:
    """Logits whose softmax are these rows; a probability of 0 becomes one of 1e-12."""
    return probabilities.clamp(min=_LEAST).log()


def completed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with `lr_init` as the set of `init` has learned it, where it has, and nobody says another."""
    found = dict(fields)
    if "init" in found:
        found["init"] = start = given_init(found["init"])
        if isinstance(start, GivenSet) and learned_lr(start.small):
            found.setdefault("lr_init", start.small.recipe.lr)
    return found


def learned_lr(small: SyntheticImages) -> bool:
    """Whether the step size of a set was learned: by trajectory matching, or by whom an imported one is from."""
    return "lr_lr" in small.method or small.method.get("name") == "imported"
