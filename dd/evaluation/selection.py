"""Choosing the iterate: on held-out training data, never on the test set unless `protocol="paper"` says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from dd.base.progress import Progress
from dd.base.seeding import child_seed
from dd.base.shapes import check_whole
from dd.data import Images, Split
from dd.data.graphs.graphs import Graphs
from dd.data.nodes.nodes import Nodes
from dd.errors import DivergedError, refuse
from dd.evaluation import NetworkLearner
from dd.evaluation.fast import Forward
from dd.evaluation.nodes import NodeLearner, WholeGraph
from dd.methods import Candidate, Method, Step
from dd.methods.table import is_ours
from dd.models import Model
from dd.synthetic import AnySet, NodeSet, SyntheticSet, from_tensors, need_set, to_tensors

Protocol = Literal["clean", "paper"]
REPEATS = 2


_SIEVED: Final = "sieved"
"""Where a record and its tensors have the candidates that the sieve let through."""


def check_sieve(sieve: int | None, method: Method) -> None:
    """A sieve is for methods that offer sets of images on the way; of a method of one's own nobody can say.

    Raises:
        InputError: below 1, or another method.
    """
    if sieve is None:
        return
    check_whole(sieve, "sieve")
    if is_ours(method) and not getattr(method, "candidate_every", 0):
        told = "a method that offers several sets: its `candidate_every` is above 0"
        raise refuse("sieve", told, f"`{method.name}`", "Leave it out, or give `candidate_every=` where it has one.")


class _Held:
    """A candidate's set, or what a checkpoint has of it: the set is made when it is needed."""

    def __init__(self, small: AnySet | None, packed: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None):
        self._small, self._packed = small, packed

    def packed(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """(its tensors, what it tells of itself)."""
        if self._small is not None:
            return to_tensors(self._small)
        assert self._packed is not None
        return self._packed

    def revived(self, train: Any, like: SyntheticSet | None = None) -> AnySet:
        """The set; a whitened one of a checkpoint takes the matrix of `like`, or it is fitted again."""
        if self._small is None:
            made = from_tensors(*self.packed())
            self._small = (made if like is None else made.attach_as(like)).attach(train)
        return self._small


@dataclass(frozen=True)
class _Sieved:
    """A candidate that waits for networks, and its share by ridge regression."""

    score: float
    name: str
    iteration: int
    held: _Held


class Selector:
    """Keeps the best candidate of a run, scored by fresh networks.

    With `clean` the score is the mean accuracy of two networks on the validation split; with `paper` it is that on
    the test set, as in the published code, and is labelled so. Where a run offers only one set, nothing is scored;
    of graphs it is always so. Of nodes it is the accuracy on the validation nodes under either protocol.

    With a sieve, candidates are scored by ridge regression on the features of two networks as they are initialised, on
    the same images, in about a second each; networks are trained on the best of them alone, when the run is over.

    Args:
        real, protocol, seed, device: of the run.
        model: a user's own network, which candidates that name it are trained with.
        sieve: how many candidates networks are trained on, see `check_sieve`; `None` trains on all.
        forward: makes logits in training; `None` is what pays.
    """

    def __init__(
        self,
        real: Images | Graphs | Nodes,
        protocol: Protocol,
        seed: int,
        device: torch.device,
        model: Model | None = None,
        sieve: int | None = None,
        forward: Forward | None = None,
    ) -> None:
        self._train: Any = real.train
        self._split = _scoring(real, protocol) if real.kind == "images" else None
        self._real, self._wholes = real, dict[str, WholeGraph]()
        self._protocol, self._seed = protocol, seed
        self._learner = NetworkLearner(device=device, forward=forward)
        self._own, self._sieve = model, sieve
        self._best: _Held | None = None
        self._sieved: list[_Sieved] = []
        self.record: dict[str, Any] = {"score": None, "name": "", "iteration": 0, "scores": []}
        if sieve is not None:
            self.record[_SIEVED] = []

    def offer(self, step: Step, progress: Progress | None = None) -> None:
        """Score the candidates of a step; of a run of one step, whose bar is over, each is told to `progress`."""
        if not step.candidates:
            return
        self._attach(step.candidates[0].set)
        only = step.iteration == step.total and len(step.candidates) == 1 and self._best is None and not self._sieved
        score = self._score if self._sieve is None else self._read
        offers: list[tuple[Candidate, AnySet, float | None]] = []
        for place, candidate in enumerate(step.candidates):
            small = need_set(candidate.set)
            if progress is not None and step.total == 1 and not only:
                progress(place, len(step.candidates), f"networks choose: {candidate.name}")
            offers.append((candidate, small, None if only else score(small)))
        for candidate, small, found in offers:  # after all scores, so that an interruption leaves no half-step
            if self._sieve is None or found is None:
                self._take(found, candidate.name, candidate.iteration, _Held(small))
            else:
                self._pass(_Sieved(found, candidate.name, candidate.iteration, _Held(small)))

    def finish(self) -> None:
        """Train networks on what the sieve let through.

        Raises:
            DivergedError: networks can be trained on none of the sets.
        """
        for one in sorted(self._sieved, key=lambda one: one.iteration):
            self._take(self._score(one.held.revived(self._train)), one.name, one.iteration, one.held)
        self._sieved = []
        if self.record["score"] == 0 and (best := self.best) is not None:  # by chance, or no network can be trained
            self._check_trains(best)

    def _check_trains(self, small: AnySet) -> None:
        try:
            self._measured(small)
        except DivergedError as error:
            lr, learned = small.recipe.lr, "lr_lr" in small.method
            way_out = "Lower `lr_lr` or `lr_init`" if learned else "Give `train` a lower `lr`"
            raise DivergedError(
                f"of {len(self.record['scores'])} sets that were offered there is none that networks can be trained "
                f"on: training diverged on the first, by its step size of {lr:.3g}. {way_out}."
            ) from error

    def _take(self, score: float | None, name: str, iteration: int, held: _Held) -> None:
        """Keep a set that is better than those before."""
        if score is not None:
            self.record["scores"].append([name, iteration, score])
        top = self.record["score"]
        if self._best is None or (score is not None and (top is None or score > top)):
            self._best = held
            self.record.update(score=score, name=name, iteration=iteration)

    def _pass(self, one: _Sieved) -> None:
        """Keep as many as the sieve lets through, of equal ones the first."""
        assert self._sieve is not None
        self.record[_SIEVED].append([one.name, one.iteration, one.score])
        self._sieved = sorted([*self._sieved, one], key=lambda each: -each.score)[: self._sieve]

    def _score(self, small: AnySet) -> float:
        """Mean accuracy; a set on which training diverges scores 0."""
        with suppress(DivergedError):
            return self._measured(small)
        return 0.0

    def _measured(self, small: AnySet) -> float:
        """Mean accuracy of networks that are trained on the set."""
        return self._score_nodes(small) if small.kind == "nodes" else self._mean(self._learner, small)

    def _read(self, small: AnySet) -> float:
        """Mean accuracy of ridge regression; a set whose features are not finite scores 0."""
        from dd.evaluation.readers import ReaderLearner  # `dd.distill` starts without it

        with suppress(DivergedError):
            return self._mean(ReaderLearner(device=self._learner.device), small)
        return 0.0

    def _mean(self, learner: NetworkLearner, small: AnySet) -> float:
        if small.kind != "images" or self._split is None:
            raise refuse("method", "one that offers a single candidate for graphs", "several", "Choose it yourself.")
        own = self._own if str(self._own) == small.recipe.model else None
        learner, total = dataclasses.replace(learner, model=own), 0.0
        for repeat in range(REPEATS):
            seed = child_seed(self._seed, "select", repeat)
            total += learner.fit(small, seed).score(self._split)
        return total / REPEATS

    def _score_nodes(self, small: NodeSet) -> float:
        """Mean accuracy on the validation nodes at the last step."""
        real, scale = self._real, small.recipe.scale
        assert real.kind == "nodes"
        if real.val is None:
            raise refuse("method", "one that offers a single candidate for data without validation nodes", "several")
        if scale not in self._wholes:
            self._wholes[scale] = WholeGraph.of(real, scale, self._learner.device)
        learner, whole, total = NodeLearner(device=self._learner.device, looks=False), self._wholes[scale], 0.0
        for repeat in range(REPEATS):
            total += learner.fit(small, child_seed(self._seed, "select", repeat), whole).val or 0.0
        return total / REPEATS

    @property
    def rule(self) -> str:
        """The selection rule in words."""
        if self.record["score"] is None:
            return "the only candidate" if self._real.kind == "nodes" else "last iterate"
        where = "TEST set (as published)" if self._protocol == "paper" else "validation split"
        where = "validation nodes" if self._real.kind == "nodes" else where
        count, sieved = len(self.record["scores"]), len(self.record.get(_SIEVED, []))
        through = f", which ridge regression there chose of {sieved}" if sieved else ""
        told = f"best of {count} candidates on the {where}{through}: {self.record['name']}"
        return told if self._real.kind == "nodes" else f"{told} at {self.record['iteration']}"

    @property
    def best(self) -> AnySet | None:
        """The best set so far, that of a checkpoint too."""
        return None if self._best is None else self._best.revived(self._train)

    def kept(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """(the record, what the best set and the sieved ones tell of themselves, their tensors), for a checkpoint."""
        tensors, told = ({}, None) if self._best is None else self._best.packed()
        found, about = dict(tensors), []
        for i, one in enumerate(self._sieved):
            own, text = one.held.packed()
            found.update({f"{_SIEVED}/{i}/{name}": value for name, value in own.items()})
            about.append({"score": one.score, "name": one.name, "iteration": one.iteration, "set": text})
        return {"record": self.record, "best": told, **({_SIEVED: about} if about else {})}, found

    def restore(self, kept: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take up what `kept` gave; sets are made when they are needed."""
        self.record, best = dict(kept["record"]), dict(tensors)
        self._sieved = []
        for i, told in enumerate(kept.get(_SIEVED, [])):
            start = f"{_SIEVED}/{i}/"
            own = {name.removeprefix(start): best.pop(name) for name in tensors if name.startswith(start)}
            self._sieved.append(
                _Sieved(told["score"], told["name"], told["iteration"], _Held(None, (own, told["set"])))
            )
        self._best = None if kept["best"] is None else _Held(None, (best, kept["best"]))

    def _attach(self, like: SyntheticSet) -> None:
        """Sets of a checkpoint that are whitened take the matrix of `like`."""
        for held in [*([] if self._best is None else [self._best]), *(one.held for one in self._sieved)]:
            held.revived(self._train, like)


def _scoring(real: Images, protocol: Protocol) -> Split:
    """The images that candidates are scored on."""
    split = real.test if protocol == "paper" else real.val
    if split is None:
        raise refuse(
            "data",
            "with a test split for protocol='paper'" if protocol == "paper" else "with a validation split",
            "none",
            "Use protocol='clean', or give dd.Images(train=…, test=…).",
        )
    return split
