"""Recipes of an evaluation: one way to train on every set of a report, whatever labels and recipe a set carries.

- `own`: each set under its own labels and recipe.
- `hard`: each under one class an image, and cross-entropy (`small.hard()`): what is left without teachers.
- `rd3`: the rectified protocol of RD3 (ICLR 2026): one teacher's labels for all, and one student. Published rows of
  decoupled methods, 27 points apart, are 7 apart under it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final, Literal, cast, get_args

from dd.base.seeding import child_seed
from dd.contest.contest import AnyBaseline
from dd.data import Images
from dd.errors import find_name, refuse
from dd.evaluation.subset import Equipped
from dd.methods import Run
from dd.methods.decoupled.relabel import make_labels
from dd.methods.panel import Member, Panel, check_members, seat
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.teachers import Teacher, TeacherRecipe
from dd.transforms.levels import from_levels
from dd.transforms.whiten import Transform

Recipe = Literal["own", "hard", "rd3"]
RECIPES: Final[tuple[Recipe, ...]] = get_args(Recipe)

RD3: Final = TrainRecipe(
    model="resnet18(norm=batch)",
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.0,
    schedule="cosine",
    loss="kl",
    temperature=20.0,
    batch_size=50,
)
"""Adam (no decay), cosine to 0 (ζ = 1, for other networks too, where RD3 takes 2), and T = 20 as in EDC, since our
source of RD3 gives none."""
RD3_EPOCHS: Final = 400

NOTES: Final[dict[Recipe, tuple[str, ...]]] = {
    "own": (),
    "hard": (
        'Every set is trained on under one class an image (`recipe="hard"`): soft labels that it stores are not '
        "read, and their bytes count all the same.",
    ),
    "rd3": (
        'Every set has the labels of one teacher and one training (`recipe="rd3"`): bytes are of the sets as they are '
        "stored, and those labels, which are made anew, are not among them.",
    ),
}
"""How the sets of a table are trained and what their bytes are."""

Under = Callable[[Equipped], Equipped]
"""A set as it is evaluated."""


def check_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: an unknown one.
    """
    return cast(Recipe, find_name("evaluation recipe", name, RECIPES))


def own_alone(recipe: Recipe, kind: str) -> None:
    """Refuse another recipe than `own` for data whose sets have no other labels.

    Args:
        recipe: what was asked for.
        kind: of the data: `graphs` or `nodes`.

    Raises:
        InputError: another one.
    """
    if recipe != "own":
        way_out = "Leave `recipe` out."
        raise refuse("recipe", f"`own` for {kind}, whose sets have no other labels", f"`{recipe}`", way_out)


def suited(recipe: Recipe, picked: Sequence[AnyBaseline], asked: bool) -> list[AnyBaseline]:
    """The baselines that say something under a recipe.

    Args:
        recipe: of the report.
        picked: those that were asked for, or that there are by default.
        asked: whether they were asked for.

    Raises:
        InputError: one was asked for that has labels of its own, or under `rd3` all training images.
    """

    def fits(one: AnyBaseline) -> bool:
        return recipe == "own" or not (getattr(one, "labels", None) or (recipe == "rd3" and not one.budget))

    for one in picked:
        if asked and not fits(one):
            way_out = f"Leave it out, or give `recipe='own'`: under `{recipe}` all rows have the same labels."
            raise refuse("baselines", f"those that `recipe='{recipe}'` can train", f"`{one.name}`", way_out)
    return [one for one in picked if fits(one)]


def under(
    recipe: Recipe,
    real: Images,
    teacher: Callable[[], TeacherRecipe],
    run: Run,
    steps: int | None = None,
    committee: Sequence[Member] | None = None,
) -> Under:
    """What a set becomes under a recipe.

    Args:
        recipe: of the report.
        real: the data.
        teacher: how the teacher of `rd3` is trained, where its store has none.
        run: seed, device, store of teachers, progress.
        steps: optimiser steps, where they are not the recipe's: no more batches are labelled.
        committee: another teacher for `rd3` than a ResNet-18, or several with equal weights.

    Raises:
        InputError: the set cannot be labelled anew, or the data has no training images for a teacher.
    """
    if recipe == "own":
        return lambda small: small
    if recipe == "hard":
        return lambda small: small.hard() if hasattr(small, "hard") else small
    members = (RD3.model,) if committee is None else check_members(committee)
    panel: Panel | None = None

    def labelled(small: Equipped) -> Equipped:
        nonlocal panel
        check_labelled(small, real)
        assert isinstance(small, SyntheticImages)
        how = teacher()
        panel = panel or seat(members, how, [1.0] * len(members), None, real, run)
        return rectified(small, panel.all_votes(1.0), how.transform(real), run, steps)

    return labelled


def check_labelled(small: object, real: Images) -> None:
    """Refuse a set that a teacher cannot label anew for `rd3`.

    Raises:
        InputError: canvases, composed images, or data without training images.
    """
    way_out = "Give `recipe='hard'`, which all sets can be trained under."
    if not isinstance(small, SyntheticImages):
        raise refuse("recipe", "`own` or `hard` for images that share their parts", "`rd3`", way_out)
    if small.canvas > 1:
        raise refuse("recipe", "`own` or `hard` for canvases, of which students see crops", "`rd3`", way_out)
    if not len(real.train):
        raise refuse("recipe", "`own` or `hard` for data without training images for a teacher", "`rd3`", way_out)


def rectified(
    small: SyntheticImages,
    votes: Sequence[tuple[Teacher, float]],
    transform: Transform,
    run: Run,
    steps: int | None = None,
) -> SyntheticImages:
    """The set's pictures, rounded to 256 levels, under the logits of a teacher and the recipe of RD3.

    Every batch of 50 is cropped at random, flipped and mixed by CutMix, then labelled; the student replays it.

    Args:
        small: the set; its labels are not read but for its classes.
        votes: the teacher, with weight 1.
        transform: pixels → the model space of the teacher and of students.
        run: seed, device, progress.
        steps: optimiser steps, 400 epochs by default.
    """
    pictures = small.pictures()
    batch = min(RD3.batch_size, len(small))
    each = -(-len(small) // batch)
    epochs = RD3_EPOCHS if steps is None else min(RD3_EPOCHS, -(-steps // each))
    store = make_labels(
        pictures,
        votes,
        epochs=epochs,
        batch=batch,
        seed=child_seed(run.seed, "rd3"),
        device=run.device,
        progress=run.progress,
    )
    return SyntheticImages(
        images=from_levels(pictures, transform),
        labels=small.hard_labels,
        classes=small.classes,
        recipe=dataclasses.replace(RD3, batch_size=batch, steps=RD3_EPOCHS * each),
        transform=transform,
        method=small.method,
        provenance={**small.provenance, "labels": "rd3"},
        store=store,
    )
