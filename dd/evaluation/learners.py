"""Learners: ways to turn a synthetic set into a predictor. The network loop is one; trees will bring another."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from dd.data import Split
from dd.errors import DivergedError, refuse
from dd.evaluation.fast import Forward
from dd.evaluation.loop import accuracy, fit, fresh, logits
from dd.evaluation.scorer import Scorer, until_flat
from dd.evaluation.scores import Figures, comparable, figures
from dd.evaluation.subset import Equipped
from dd.models import AnyModel, as_spec, is_own_name
from dd.synthetic import ImageSet, TrainRecipe

LR_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Step sizes tried by `tuned`: the same ones for a distilled set and for random images."""


class Predictor(Protocol):
    """A trained thing that can be scored."""

    def score(self, split: Split) -> float:
        """Accuracy in [0, 1] on real data."""
        ...


class Learner(Protocol):
    """Fits a synthetic set; `seed` names all its streams. Labels may be soft; `small.hard()` has classes only."""

    def fit(self, small: ImageSet, seed: int) -> Predictor:
        """A fresh predictor."""
        ...


@dataclass(frozen=True)
class NetworkPredictor:
    """A trained network with the transform that its images need."""

    net: torch.nn.Module
    small: Equipped
    device: torch.device

    def score(self, split: Split, metric: str = "accuracy") -> float:
        """Accuracy, or another of `METRICS`, in [0, 1]."""
        if metric == "accuracy":
            return accuracy(self.net, split, self.small.ready_transform(), self.device)
        return figures(comparable(self.logits(split)), split.labels, metric).metrics[metric]

    def logits(self, split: Split) -> torch.Tensor:
        """Outputs on real images, float32 `[N, K]`, on the CPU."""
        return logits(self.net, split, self.small.ready_transform(), self.device)


@dataclass(frozen=True)
class NetworkLearner:
    """Trains a fresh network by the recipe carried in the set, with some of its fields replaced.

    Attributes:
        model: `None` takes the one that the set was distilled for.
        steps, lr: `None` takes the recipe's.
        device: where to train.
        forward: makes logits in training; `None` is what pays, see `fit`.
    """

    model: AnyModel | None = None
    steps: int | None = None
    lr: float | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    forward: Forward | None = None

    def recipe(self, small: Equipped) -> TrainRecipe:
        """The recipe used for this set."""
        own = small.recipe
        steps = own.steps if self.steps is None else self.steps
        return dataclasses.replace(own, steps=steps, lr=own.lr if self.lr is None else self.lr)

    def fit(self, small: Equipped, seed: int) -> NetworkPredictor:
        """Train one network."""
        recipe = self.recipe(small)
        net = fresh(small, self.model if self.model is not None else model_of(recipe), seed, self.device)
        net = fit(small, net, recipe, seed, self.device, self.forward)
        return NetworkPredictor(net, small, self.device)

    def told(self, small: Equipped) -> dict[str, Any]:
        """What a row says of its model, steps and step size."""
        recipe = self.recipe(small)
        return {"model": model_name(self.model, small), "steps": recipe.steps, "lr": recipe.lr}

    def scores(self, small: Equipped, seeds: Sequence[int], test: Scorer) -> list[float]:
        """Accuracy of a fresh network for each seed: what `fit(small, seed).score(split)` gives, to the bit."""
        transform = small.ready_transform()
        return [test.accuracy(self.fit(small, seed).net, transform) for seed in seeds]

    def figures(self, small: Equipped, seeds: Sequence[int], test: Scorer, metric: str = "accuracy") -> list[Figures]:
        """All figures of a fresh network for each seed, `metric` among them; accuracies are those of `scores`."""
        transform = small.ready_transform()
        return [test.figures(self.fit(small, seed).net, transform, metric) for seed in seeds]


def tune_lr(
    learner: NetworkLearner, small: Equipped, val: Split, seed: int, repeats: int = 1, metric: str = "accuracy"
) -> NetworkLearner:
    """The learner with the step size of `LR_GRID` that scores best, by `metric`, on the validation split.

    Raises:
        DivergedError: with every one of them.
    """
    trials = {lr: dataclasses.replace(learner, lr=lr) for lr in LR_GRID}
    score = lambda lr: sum(trials[lr].fit(small, seed + r).score(val, metric) for r in range(repeats)) / repeats  # noqa: E731
    return trials[best_lr(LR_GRID, score, "the synthetic set")]


def best_lr(grid: Sequence[float], score: Callable[[float], float], name: str) -> float:
    """The step size of a grid that scores best, the first of equals; those with which training diverges are left out.

    Args:
        grid: step sizes.
        score: trains with one, and scores.
        name: what is trained on, for the message.

    Raises:
        DivergedError: with every one of them.
    """
    tried: list[tuple[float, float]] = []
    for lr in grid:
        with contextlib.suppress(DivergedError):
            tried.append((score(lr), lr))
    if not tried:
        raise DivergedError(f"training on {name} diverged with every lr of {tuple(grid)}. Give `lr` yourself.")
    return max(tried, key=lambda pair: pair[0])[1]


def model_name(model: AnyModel | None, small: Equipped) -> str:
    """How a report calls the model."""
    return str(as_spec(model_of(small.recipe) if model is None else model))


def model_of(recipe: TrainRecipe, argument: Literal["model", "models"] = "model") -> str:
    """The network that a set was distilled for, by its name.

    Args:
        recipe: of the set.
        argument: which one would name another network.

    Raises:
        InputError: it is a user's own, of which the set knows the name alone.
    """
    if not is_own_name(recipe.model):
        return recipe.model
    again = f"dd.Model(factory, name='{recipe.model}')"
    again = f"models=[{again}]" if argument == "models" else f"model={again}"
    way_out = f"Give it again, `{again}`; or a network of the library's, in a shell `--{argument} convnet`."
    got = f"none, and the set was made for {recipe.model!r}, which is none of the library's"
    raise refuse(argument, "given where a set was made for a network of your own", got, way_out)


def enough_steps(
    learner: NetworkLearner, real: Equipped, val: Split, seed: int, most: int, least: int = 1
) -> tuple[int, bool]:
    """Steps after which twice as many gain nothing on the validation split, and whether that was seen.

    From a quarter of the recipe's steps on they are doubled, each time with a fresh network and its whole schedule,
    until the accuracy gains less than its own standard error, and is better than guessing: two networks that have
    learnt nothing yet are alike too. `most` bounds the steps; fewer than `least` are no answer.
    """
    steps, found, scorer = max(1, learner.recipe(real).steps // 4), [], Scorer(val, learner.device)
    while True:
        found.append((steps, dataclasses.replace(learner, steps=steps).scores(real, [seed], scorer)[0]))
        if steps >= least and until_flat(found, len(val), 1 / len(real.classes)):
            return max((pair for pair in found[-2:] if pair[0] >= least), key=lambda pair: pair[1])[0], True
        if 2 * steps > most:
            return steps, False
        steps *= 2
