"""Readers: what is learned without a training, a linear map of the features of a network as it is initialised.

`ridge` and `nearest_mean` stand in the place of a model: of every set, baseline and draw they say what its images are
worth before any optimiser, schedule or augmentation has a part in it, in about a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, cast, final, get_args

import torch
from torch import Tensor, nn

from dd.base.seeding import child
from dd.base.shapes import check_number, check_types, check_word
from dd.errors import DivergedError, refuse
from dd.evaluation.learners import NetworkLearner, NetworkPredictor, model_name, model_of
from dd.evaluation.loop import fresh
from dd.evaluation.subset import Equipped
from dd.models import AnyModel, as_spec
from dd.models.features import features

Rule = Literal["ridge", "nearest_mean"]
READERS: Final[tuple[Rule, ...]] = get_args(Rule)
"""Names that may stand among `models` of images."""

STRENGTH: Final = 0.01
"""λ of `ridge`, in units of the mean squared norm of the centred features."""
LEAST: Final = 1e-12
"""Of `strength`."""

_BATCH: Final = 500


@final
@dataclass(frozen=True)
class Reader:
    """A model that is not trained: features φ(x) of a random network, and a linear map from them to classes.

    `ridge` solves `min_W Σ_i ‖W(φ_i − φ̄) + ȳ − y_i‖² + λ ‖W‖²` in float64, λ = strength · mean ‖φ_i − φ̄‖², with one-hot
    classes or probabilities for y. `nearest_mean` takes the class whose mean feature is the nearest; an image of soft
    labels counts for each class by its probability, and a class without any is never taken.

    Attributes:
        rule: which one.
        net: whose features, of its last linear layer, in eval mode; `None` is the one that the set was distilled for.
        strength: of `ridge`, at least 10⁻¹².

    Raises:
        InputError: another rule, or a smaller strength.
    """

    rule: Rule
    net: AnyModel | None = None
    strength: float = STRENGTH

    def __post_init__(self) -> None:
        check_word(self.rule, "rule", READERS)
        check_number(self.strength, "strength", low=0.0)
        check_types(self)
        if not self.strength >= LEAST:
            raise refuse("strength", f"at least {LEAST:g}, or rounding is all that is left of it", self.strength)

    def __str__(self) -> str:
        return _ruled(self.rule, self.strength) + ("" if self.net is None else f" of {as_spec(self.net)}")


def _ruled(rule: Rule, strength: float) -> str:
    """A rule as rows name it, with another strength than the usual one."""
    return rule if strength == STRENGTH else f"{rule}(strength={strength!r})"


def reader_of(model: object) -> Reader | None:
    """The reader that a model is or names; `None` of a network."""
    if isinstance(model, Reader):
        return model
    return Reader(model) if isinstance(model, str) and model in READERS else None


@final
@dataclass(frozen=True)
class ReaderLearner(NetworkLearner):
    """Reads a set by a `Reader`, one random network a seed; steps and step sizes have no part in it.

    Attributes:
        rule, strength: of the reader; its network is `model`.
    """

    rule: Rule = "ridge"
    strength: float = STRENGTH

    @classmethod
    def of(cls, reader: Reader, device: torch.device) -> Self:
        """The learner of a reader."""
        return cls(model=reader.net, device=device, rule=reader.rule, strength=reader.strength)

    @torch.no_grad()
    def fit(self, small: Equipped, seed: int) -> NetworkPredictor:
        """The network with its linear map in place of its last layer.

        Labels of teachers' logits, and stored ones, count by their classes; a canvas is read by one epoch of crops.
        """
        given = _plain(small)
        net = fresh(given, self.model if self.model is not None else model_of(given.recipe), seed, self.device).eval()
        found, wanted = [], []
        for x, y in given.batches(_BATCH, child(seed, "read")):
            found.append(_features(net, x.to(self.device, copy=True)))  # a network may write into its pictures
            wanted.append(_shares(y, len(given.classes)).to(self.device))
        weight, bias = self._solve(torch.cat(found).double(), torch.cat(wanted).double())
        if not bool(torch.isfinite(weight).all()):
            raise DivergedError(f"features of {model_name(self.model, small)} are not finite. Give another network.")
        return NetworkPredictor(_Headed(net, weight.float(), bias.float()), small, self.device)

    def _solve(self, phi: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(weight `[D, K]`, bias `[K]`) of features `[n, D]` and shares of classes `[n, K]`."""
        return ridge(phi, y, self.strength) if self.rule == "ridge" else nearest_mean(phi, y)

    def told(self, small: Equipped) -> dict[str, Any]:
        """What a row says of its model; there is no step."""
        rule = _ruled(self.rule, self.strength)
        return {"model": f"{rule}, random {model_name(self.model, small)}", "steps": 0, "lr": 0.0}


def ridge(phi: Tensor, y: Tensor, strength: float = STRENGTH) -> tuple[Tensor, Tensor]:
    """(weight `[D, K]`, bias `[K]`) of ridge regression with a free bias, see `Reader`.

    By the smaller of the two systems, D × D or n × n, which have one solution.

    Args:
        phi: features `[n, D]`, float64.
        y: shares of classes `[n, K]`, float64.
        strength: λ in units of the mean squared norm of the centred features.
    """
    mean, target = phi.mean(0), y.mean(0)
    x, t = phi - mean, y - target
    level = (strength * x.square().sum(1).mean()).clamp(min=1e-150)  # features that are all alike have weights of 0
    if len(x) < x.shape[1]:
        weight = x.T @ torch.linalg.solve(x @ x.T + level * torch.eye(len(x), dtype=x.dtype, device=x.device), t)
    else:
        weight = torch.linalg.solve(x.T @ x + level * torch.eye(x.shape[1], dtype=x.dtype, device=x.device), x.T @ t)
    return weight, target - mean @ weight


def nearest_mean(phi: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(weight `[D, K]`, bias `[K]`) whose largest output is the class of the nearest mean: 2 μ_k·φ − ‖μ_k‖².

    Args:
        phi: features `[n, D]`.
        y: shares of classes `[n, K]`; a class without any has bias −10³⁰.
    """
    mass = y.sum(0)
    means = (y.T @ phi) / mass.clamp(min=torch.finfo(phi.dtype).tiny)[:, None]
    return 2 * means.T, torch.where(mass > 0, -means.square().sum(1), -1e30)


@final
class _Headed(nn.Module):
    """A linear map of a network's features."""

    def __init__(self, net: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return _features(self.net, x) @ cast(Tensor, self.weight) + cast(Tensor, self.bias)


def _features(net: nn.Module, x: Tensor) -> Tensor:
    call: Callable[[], Any] = lambda: net(x)  # noqa: E731
    return features(net, call, "models")


def _plain(small: Any) -> Equipped:
    """The set under classes or probabilities: logits of teachers are of augmented pictures."""
    return cast(Equipped, small if small.recipe.loss == "ce" else small.hard())


def _shares(y: Tensor, classes: int) -> Tensor:
    """Labels as shares of classes `[n, K]`."""
    return y if y.ndim == 2 else nn.functional.one_hot(y, classes)


def with_net(model: Any, net: AnyModel) -> Any:
    """A reader with a network where it has none of its own; any other model as it is."""
    return dataclasses.replace(model, net=net) if isinstance(model, Reader) and model.net is None else model
