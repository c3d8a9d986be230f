"""Choosing the iterate: on held-out training data, never on the test set unless `protocol="paper"` says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dd.base.progress import Progress
from dd.base.seeding import child_seed
from dd.data import Images, Split
from dd.data.graphs.graphs import Graphs
from dd.data.nodes.nodes import Nodes
from dd.errors import DivergedError, refuse
from dd.evaluation import NetworkLearner
from dd.evaluation.nodes import NodeLearner, WholeGraph
from dd.methods import Candidate, Step
from dd.models import Model
from dd.synthetic import AnySet, NodeSet, SyntheticSet, from_tensors, need_set, to_tensors

Protocol = Literal["clean", "paper"]
REPEATS = 2


class Selector:
    """Keeps the best candidate of a run, scored by fresh networks.

    With `clean` the score is the mean accuracy of two networks on the validation split; with `paper` it is that on
    the test set, as in the published code, and is labelled so. Where a run offers only one set, nothing is scored;
    of graphs it is always so. Of nodes it is the accuracy on the validation nodes under either protocol.

    Args:
        real, protocol, seed, device: of the run.
        model: a user's own network, which candidates that name it are trained with.
    """

    def __init__(
        self,
        real: Images | Graphs | Nodes,
        protocol: Protocol,
        seed: int,
        device: torch.device,
        model: Model | None = None,
    ) -> None:
        self._train: Any = real.train
        self._split = _scoring(real, protocol) if real.kind == "images" else None
        self._real, self._wholes = real, dict[str, WholeGraph]()
        self._protocol, self._seed, self._learner = protocol, seed, NetworkLearner(device=device)
        self._own = model
        self._best: AnySet | None = None
        self._waiting: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None
        self.record: dict[str, Any] = {"score": None, "name": "", "iteration": 0, "scores": []}

    def offer(self, step: Step, progress: Progress | None = None) -> None:
        """Score the candidates of a step; of a run of one step, whose bar is over, each is told to `progress`."""
        if not step.candidates:
            return
        held = self._revived(step.candidates[0].set)
        only = step.iteration == step.total and len(step.candidates) == 1 and held is None
        offers: list[tuple[Candidate, AnySet, float | None]] = []
        for place, candidate in enumerate(step.candidates):
            small = need_set(candidate.set)
            if progress is not None and step.total == 1 and not only:
                progress(place, len(step.candidates), f"networks choose: {candidate.name}")
            offers.append((candidate, small, None if only else self._score(small)))
        for (
            candidate,
            small,
            score,
        ) in offers:  # after all scores, so that an interruption leaves no half-step
            if score is not None:
                self.record["scores"].append([candidate.name, candidate.iteration, score])
            top = self.record["score"]
            if self._best is None or (score is not None and (top is None or score > top)):
                self._best = small
                self.record.update(score=score, name=candidate.name, iteration=candidate.iteration)

    def _score(self, small: AnySet) -> float:
        """Mean accuracy; a set on which training diverges scores 0."""
        if small.kind == "nodes":
            return self._score_nodes(small)
        if small.kind == "graphs" or self._split is None:
            raise refuse("method", "one that offers a single candidate for graphs", "several", "Choose it yourself.")
        own = self._own if str(self._own) == small.recipe.model else None
        learner, total = dataclasses.replace(self._learner, model=own), 0.0
        for repeat in range(REPEATS):
            seed = child_seed(self._seed, "select", repeat)
            try:
                total += learner.fit(small, seed).score(self._split)
            except DivergedError:
                return 0.0
        return total / REPEATS

    def _score_nodes(self, small: NodeSet) -> float:
        """Mean accuracy on the validation nodes at the last step; a set on which training diverges scores 0."""
        real, scale = self._real, small.recipe.scale
        assert real.kind == "nodes"
        if real.val is None:
            raise refuse("method", "one that offers a single candidate for data without validation nodes", "several")
        if scale not in self._wholes:
            self._wholes[scale] = WholeGraph.of(real, scale, self._learner.device)
        learner, whole, total = NodeLearner(device=self._learner.device, looks=False), self._wholes[scale], 0.0
        for repeat in range(REPEATS):
            try:
                total += learner.fit(small, child_seed(self._seed, "select", repeat), whole).val or 0.0
            except DivergedError:
                return 0.0
        return total / REPEATS

    @property
    def rule(self) -> str:
        """The selection rule in words."""
        if self.record["score"] is None:
            return "the only candidate" if self._real.kind == "nodes" else "last iterate"
        where = "TEST set (as published)" if self._protocol == "paper" else "validation split"
        where = "validation nodes" if self._real.kind == "nodes" else where
        count = len(self.record["scores"])
        told = f"best of {count} candidates on the {where}: {self.record['name']}"
        return told if self._real.kind == "nodes" else f"{told} at {self.record['iteration']}"

    @property
    def best(self) -> AnySet | None:
        """The best set so far, that of a checkpoint too."""
        return self._revived()

    def kept(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """(the record and what the best set tells of itself, its tensors), for a checkpoint."""
        waiting = self._waiting if self._best is None else to_tensors(self._best)
        tensors, told = waiting or ({}, None)
        return {"record": self.record, "best": told}, dict(tensors)

    def restore(self, kept: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take up what `kept` gave; the best set is made when it is needed."""
        self.record = dict(kept["record"])
        self._waiting = None if kept["best"] is None else (tensors, kept["best"])

    def _revived(self, like: SyntheticSet | None = None) -> AnySet | None:
        """The best set; one of a checkpoint that is whitened takes the matrix of `like`, or it is fitted again."""
        if self._best is None and self._waiting is not None:
            made = from_tensors(*self._waiting)
            made = made if like is None else made.attach_as(like)
            self._best, self._waiting = made.attach(self._train), None
        return self._best


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
