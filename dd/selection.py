"""Choosing the iterate: on held-out training data, never on the test set unless `protocol="paper"` says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dd.data import Images, Split
from dd.data.graphs import Graphs, GraphSplit
from dd.errors import DivergedError, refuse
from dd.evaluation import NetworkLearner
from dd.methods import Candidate, Step
from dd.seeding import child_seed
from dd.synthetic import AnySet, ImageSet, SyntheticImages, TreeSummary, from_tensors, to_tensors

Protocol = Literal["clean", "paper"]
REPEATS = 2


class Selector:
    """Keeps the best candidate of a run, scored by fresh networks.

    With `clean` the score is the mean accuracy of two networks on the validation split; with `paper` it is that on
    the test set, as in the published code, and is labelled so. Where a run offers only one set, nothing is scored;
    of graphs it is always so.
    """

    def __init__(self, real: Images | Graphs, protocol: Protocol, seed: int, device: torch.device) -> None:
        split = real.test if protocol == "paper" else real.val
        if split is None and isinstance(real, Images):
            raise refuse(
                "data",
                "with a test split for protocol='paper'" if protocol == "paper" else "with a validation split",
                "none",
                "Use protocol='clean', or give dd.Images(train=…, test=…).",
            )
        self._real = real
        self._split: Split | None = split if not isinstance(split, GraphSplit) else None
        self._protocol, self._seed, self._learner = protocol, seed, NetworkLearner(device=device)
        self._best: AnySet | None = None
        self._waiting: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None
        self.record: dict[str, Any] = {"score": None, "name": "", "iteration": 0, "scores": []}

    def offer(self, step: Step) -> None:
        """Score the candidates of a step."""
        if not step.candidates:
            return
        held = self._revived(step.candidates[0].set)
        only = step.iteration == step.total and len(step.candidates) == 1 and held is None
        offers: list[tuple[Candidate, AnySet, float | None]] = []
        for candidate in step.candidates:
            assert isinstance(candidate.set, AnySet)
            offers.append((candidate, candidate.set, None if only else self._score(candidate.set)))
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
        if isinstance(small, TreeSummary) or self._split is None:
            raise refuse("method", "one that offers a single candidate for graphs", "several", "Choose it yourself.")
        total = 0.0
        for repeat in range(REPEATS):
            seed = child_seed(self._seed, "select", repeat)
            try:
                total += self._learner.fit(small, seed).score(self._split)
            except DivergedError:
                return 0.0
        return total / REPEATS

    @property
    def rule(self) -> str:
        """The selection rule in words."""
        if self.record["score"] is None:
            return "last iterate"
        where = "TEST set (as published)" if self._protocol == "paper" else "validation split"
        count = len(self.record["scores"])
        return f"best of {count} candidates on the {where}: {self.record['name']} at {self.record['iteration']}"

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

    def _revived(self, like: object = None) -> AnySet | None:
        """The best set; one of a checkpoint that is whitened takes the matrix of `like`, or it is fitted again."""
        if self._best is None and self._waiting is not None:
            made = from_tensors(*self._waiting)
            if isinstance(made, SyntheticImages) and isinstance(like, SyntheticImages):
                made = made.attach_as(like)
            if isinstance(made, ImageSet) and isinstance(self._real, Images):
                made = made.attach(self._real.train)
            self._best, self._waiting = made, None
        return self._best
