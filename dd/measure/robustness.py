"""`dd.robustness`: DD-Ranking's scores of a set: what images are worth apart from labels and augmentation.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (arXiv 2505.13300). Accuracies are fractions
here, which is what the published bounds hold for; the published code feeds percent: `ddranking_compat`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack, final

from dd.base.home import home
from dd.base.markup import Told
from dd.base.process import under_own_settings
from dd.base.seeding import child_seed
from dd.errors import refuse
from dd.evaluation import Scorer
from dd.evaluation.subset import Equipped
from dd.measure.bench import AnyImageSet, Bench, Options, open_bench, with_recipe
from dd.measure.values import Values, table
from dd.methods import Run, rebuild
from dd.methods.panel import Member
from dd.run.keep import kept
from dd.synthetic import ImageSet, TrainRecipe, need_images
from dd.transforms.dsa import DSA


def score_of(gain: float) -> float:
    """(e^a − e^−1) / (e − e^−1): 0 at a = −1, 0.2689 at 0, 1 at 1; strictly increasing."""
    return (math.exp(gain) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust_score(
    *,
    full_hard: float,
    hard: float,
    own: float,
    random: float,
    weight: float = 0.5,
    ddranking_compat: bool = False,
) -> float:
    """LRS: `score_of(a)` with a = w · IOR − (1 − w) · HLR.

    HLR = full_hard − hard is what the set lacks under classes, IOR = own − random what its images add to random real
    ones under the same labels.

    Args:
        full_hard: test accuracy after training on all real images with their classes.
        hard: on the set with classes for labels.
        own: on the set with its own labels and augmentation.
        random: on as many random real images with such labels and augmentation.
        weight: w in [0, 1].
        ddranking_compat: the published package's number for the same accuracies: it calculates in percent, so that the
            score is not in [0, 1] but grows with e^100.

    Returns:
        A fraction in [0, 1]; any number with `ddranking_compat`.

    Raises:
        InputError: an accuracy or a weight outside [0, 1].
    """
    _fractions(full_hard=full_hard, hard=hard, own=own, random=random, weight=weight)
    gain = weight * (own - random) - (1 - weight) * (full_hard - hard)
    return score_of(100 * gain if ddranking_compat else gain)


def augmentation_robust_score(
    *,
    own_augmented: float,
    random_augmented: float,
    own_plain: float,
    random_plain: float,
    weight: float = 0.5,
    ddranking_compat: bool = False,
) -> float:
    """ARS: `score_of(b)`, b = γ (own − random) with augmentation + (1 − γ) (own − random) without.

    Args:
        own_augmented, own_plain: test accuracy after training on the set, with and without augmentation.
        random_augmented, random_plain: on as many random real images, likewise.
        weight: γ in [0, 1].
        ddranking_compat: as in `label_robust_score`.

    Returns:
        A fraction in [0, 1]; any number with `ddranking_compat`.

    Raises:
        InputError: an accuracy or a weight outside [0, 1].
    """
    _fractions(
        own_augmented=own_augmented,
        random_augmented=random_augmented,
        own_plain=own_plain,
        random_plain=random_plain,
        weight=weight,
    )
    gain = weight * (own_augmented - random_augmented) + (1 - weight) * (own_plain - random_plain)
    return score_of(100 * gain if ddranking_compat else gain)


def _fractions(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise refuse(name, "a fraction in [0, 1]", value, "Divide percent by 100.")


@final
@dataclass(frozen=True, kw_only=True)
class Training:
    """One of the trainings that the scores compare.

    Attributes:
        name: `full_hard`, `hard`, `own`, `random`, `own_plain`, `random_plain`, `hard_augmented`, `random_hard`, ….
        accuracy: test accuracies, one a network.
        lr, steps: of each of them.
    """

    name: str
    accuracy: Values
    lr: float
    steps: int


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Robustness(Told):
    """What `dd.robustness` answers; `print` is a table.

    Attributes:
        lrs: label-robust score of each repeat, fractions.
        ars: augmentation-robust score of each repeat, fractions; `None` where nothing is augmented.
        hlr, ior: of each repeat, fractions.
        trainings: the accuracies that they are made of.
        weight, gamma: w and γ.
        compat: the scores are the published package's, in whose unit they have no bounds.
        dataset, method, model: what was measured.
        origin: seed, commit, versions, machine.
        notes: what was done where the definition leaves it open.
    """

    lrs: Values
    ars: Values | None
    hlr: Values
    ior: Values
    trainings: tuple[Training, ...]
    weight: float
    gamma: float
    compat: bool
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "robustness",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "lrs": self.lrs.to_json(),
            "ars": None if self.ars is None else self.ars.to_json(),
            "hlr": self.hlr.to_json(),
            "ior": self.ior.to_json(),
            "weight": self.weight,
            "gamma": self.gamma,
            "ddranking_compat": self.compat,
            "trainings": [
                {"name": t.name, "accuracy": t.accuracy.to_json(), "lr": t.lr, "steps": t.steps} for t in self.trainings
            ],
            "origin": dict(self.origin),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        unit = "published unit" if self.compat else "× 100"
        scale = 1.0 if self.compat else 100.0
        write = "{:.4g}".format if self.compat else None
        scores = [("label-robust score", self.lrs), ("augmentation-robust score", self.ars)]
        lines = [f"{self.method} on {self.dataset}, {self.model}"]
        for name, value in scores:
            if value is not None:
                lines.append(f"{name} ({unit}): {write(value.mean) if write else value.text(scale)}, n {value.n}")
        lines.append(f"hard-label gap {self.hlr.text()}, gain over random {self.ior.text()} (accuracy, %)")
        rows = [(t.name, t.accuracy.text(), f"{t.lr:.3g}", str(t.steps)) for t in self.trainings]
        lines += table(("training", "accuracy %", "lr", "steps"), rows)
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


Draw = Callable[[int], Equipped]
"""Repeat → the set that its network is trained on."""


@under_own_settings
@kept("robust")
def robustness(
    small: AnyImageSet,
    data: object,
    *,
    weight: float = 0.5,
    gamma: float = 0.5,
    ddranking_compat: bool = False,
    full: float | None = None,
    full_steps: int | None = None,
    augment: str | None = None,
    committee: list[Member] | tuple[Member, ...] | None = None,
    store: str | Path | None = None,
    **options: Unpack[Options],
) -> Robustness:
    """Label-robust and augmentation-robust scores (LRS, ARS) of a set; see `dd.measure.robustness` for the equations.

    Up to seven trainings a repeat, all with the same networks: full data and the set with classes, the set and random
    real images with the set's kind of labels, both of these without augmentation. Random images are drawn anew in each
    repeat.

    Step sizes are tuned for each of them alike on held-out training images (`lr="tuned"`, the default here); the
    published procedure chooses them on the test set.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`, with training images.
        weight: w of LRS.
        gamma: γ of ARS.
        ddranking_compat: report the published package's numbers, which it computes from percent.
        full: known test accuracy of full data under classes, a fraction; nothing is trained for it then.
        full_steps: of full data; `None`: doubled until the validation split gains nothing, at most eight times the
            set's.
        augment: DSA strategy of ARS; `None` is the recipe's. A set without one has no ARS.
        committee: the set's teachers, where they are the user's own modules.
        store: where the set's teachers are; as in `dd.distill`.
        **options: see `dd.measure.bench.Options`.

    Returns:
        Scores as fractions, one a repeat, with the accuracies that they are made of.

    Raises:
        InputError: a weight or an accuracy outside [0, 1], no training images, no validation split to tune on.
        DivergedError: a training is not finite.
    """
    if full is not None and not 0 <= full <= 1:
        raise refuse("full", "a fraction in [0, 1]", full, "Divide percent by 100.")
    for name, value in (("weight", weight), ("gamma", gamma)):
        if not 0 <= value <= 1:
            raise refuse(name, "a fraction in [0, 1]", value)
    if augment is not None:
        DSA(strategy=augment)
    options.setdefault("lr", "tuned")
    bench = open_bench(small, data, **options)
    notes: list[str] = []
    plan = _plan(bench, augment, committee, store, notes)
    trained = {name: _train(bench, name, draw) for name, draw in plan.items()}
    told = list(trained.values())
    if full is None:
        told.insert(0, _train_full(bench, full_steps, notes))
        reference = told[0].accuracy.values
    else:
        reference = (full,) * bench.repeats
        notes.append(f"full data: the accuracy {full:g} was given")
    accuracy = {name: training.accuracy.values for name, training in trained.items()}
    own, random = accuracy.get("own", accuracy["hard"]), accuracy["random"]
    pairs = list(zip(reference, accuracy["hard"], own, random, strict=True))
    lrs = [
        label_robust_score(full_hard=f, hard=h, own=o, random=r, weight=weight, ddranking_compat=ddranking_compat)
        for f, h, o, r in pairs
    ]
    return Robustness(
        lrs=Values(tuple(lrs)),
        ars=_ars(accuracy, gamma, ddranking_compat),
        hlr=Values(tuple(f - h for f, h, _, _ in pairs)),
        ior=Values(tuple(o - r for _, _, o, r in pairs)),
        trainings=tuple(told),
        weight=weight,
        gamma=gamma,
        compat=ddranking_compat,
        notes=tuple(notes),
        **bench.about,
    )


def _ars(accuracy: dict[str, tuple[float, ...]], gamma: float, compat: bool) -> Values | None:
    if "own_plain" not in accuracy:
        return None
    own = accuracy["hard"] if "random_augmented" in accuracy else accuracy.get("own", accuracy["hard"])
    augmented, random = accuracy.get("own_augmented", own), accuracy.get("random_augmented", accuracy["random"])
    four = zip(augmented, random, accuracy["own_plain"], accuracy["random_plain"], strict=True)
    scores = [
        augmentation_robust_score(
            own_augmented=a, random_augmented=r, own_plain=p, random_plain=q, weight=gamma, ddranking_compat=compat
        )
        for a, r, p, q in four
    ]
    return Values(tuple(scores))


def _plan(
    bench: Bench,
    augment: str | None,
    committee: list[Member] | tuple[Member, ...] | None,
    store: str | Path | None,
    notes: list[str],
) -> dict[str, Draw]:
    """What is trained, by name.

    `own` is left out where it is `hard`; `own_augmented` where it is `own`, or `hard` beside `random_augmented`; and
    `random_augmented` where it is `random`.
    """
    small, hard = bench.small, bench.small.hard()
    plan: dict[str, Draw] = {"hard": lambda _: hard}
    teachers = None
    if hard is small:
        plan["random"] = bench.random
    else:
        plan["own"] = lambda _: small
        teachers = rebuild(small.method, committee)
        if teachers is None:
            notes.append("no teachers can label random images: they carry their classes")
            plan["random"] = bench.random
        else:
            labelled = [_labelled(bench, teachers, draw, store) for draw in range(bench.repeats)]
            plan["random"] = lambda i: labelled[i]
    base = small
    if small.store is not None:
        base = hard
        notes.append("ARS with classes for labels: those of the teachers are of stored augmented batches")
    recipe = base.recipe
    wanted = recipe.augment if augment is None else augment
    if not wanted and recipe.mix == "none":
        notes.append("no ARS: the set's recipe does not augment; `augment=` chooses one")
        return plan
    plain = dataclasses.replace(recipe, augment="", mix="none")
    moved = recipe if augment is None else dataclasses.replace(recipe, augment=augment, augment_mode="single")
    if moved != recipe:
        plan["own_augmented"] = _fixed(with_recipe(base, moved))
    if base is not small or moved != recipe:
        plan["random_augmented"] = _random(bench, plan["random"], moved)
    plan["own_plain"] = _fixed(with_recipe(base, plain))
    plan["random_plain"] = _random(bench, plan["random"], plain)
    return plan


def _fixed(small: ImageSet) -> Draw:
    return lambda _: small


def _random(bench: Bench, labelled: Draw, recipe: TrainRecipe) -> Draw:
    """Random images under another recipe, with labels of teachers where the set's own are such and not stored."""

    def draw(i: int) -> Equipped:
        made = labelled(i)
        if isinstance(made, ImageSet) and made.store is None:
            return with_recipe(made, recipe)
        return bench.random(i, dataclasses.replace(recipe, loss="ce", mix="none"))

    return draw


def _labelled(bench: Bench, teachers: Any, draw: int, store: str | Path | None) -> ImageSet:
    """Random real images under the labels of the set's own teachers."""
    run = Run(
        seed=child_seed(bench.seed, "draw", draw),
        device=bench.learner.device,
        store=home("expert_trajectories", store),
    )
    last = list(teachers.of_random_images().distill(bench.real, run))[-1]
    return need_images(last.candidates[0].set)


def _train(bench: Bench, name: str, draw: Draw) -> Training:
    sets = [draw(i) for i in range(bench.repeats)]
    learner, scorer = bench.learner_for(sets[0]), Scorer(bench.test, bench.learner.device)
    values: list[float] = []
    for small, seed in zip(sets, bench.seeds(), strict=True):
        values += learner.scores(small, [seed], scorer)
    bench.progress(1, 1, f"{name} {100 * values[-1]:.1f} %")
    recipe = learner.recipe(sets[0])
    return Training(name=name, accuracy=Values(tuple(values)), lr=recipe.lr, steps=recipe.steps)


def _train_full(bench: Bench, steps: int | None, notes: list[str]) -> Training:
    real, learner, seen = bench.full(steps)
    if not seen:
        steps = learner.recipe(real).steps
        notes.append(f"full data still gained at {steps} steps, where it was stopped: give `full_steps=`")
    values = learner.scores(real, bench.seeds(), Scorer(bench.test, learner.device))
    recipe = learner.recipe(real)
    return Training(name="full_hard", accuracy=Values(tuple(values)), lr=recipe.lr, steps=recipe.steps)
