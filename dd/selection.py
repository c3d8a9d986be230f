"""Choosing the iterate: on held-out training data, never on the test set unless `protocol="paper"` says so."""

from __future__ import annotations

import dataclasses
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
from dd.synthetic import AnySet, SyntheticImages, TreeSummary

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
        self._split: Split | None = split if not isinstance(split, GraphSplit) else None
        self._protocol, self._seed, self._learner = protocol, seed, NetworkLearner(device=device)
        self.best: AnySet | None = None
        self._waiting: Mapping[str, Tensor] = {}
        self._waiting_lr: float | None = None
        self.record: dict[str, Any] = {"score": None, "name": "", "iteration": 0, "scores": []}

    def offer(self, step: Step) -> None:
        """Score the candidates of a step."""
        if step.candidates:
            first = step.candidates[0].set
            assert isinstance(first, AnySet)
            self._revive(first)
        only = step.iteration == step.total and len(step.candidates) == 1 and self.best is None
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
            held = self.record["score"]
            if self.best is None or (score is not None and (held is None or score > held)):
                self.best = small
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

    def tensors(self) -> dict[str, Tensor]:
        """The best images and labels so far, for a checkpoint."""
        if self.best is None:
            return dict(self._waiting)
        if not isinstance(self.best, SyntheticImages) or self.best.store is not None:
            return {}  # the only candidate of its run, which makes its last step again
        return {"images": self.best.images, "labels": self.best.labels}

    def kept(self) -> dict[str, Any]:
        """What belongs to the best images, for a checkpoint."""
        return {**self.record, "lr": self._waiting_lr if self.best is None else self.best.recipe.lr}

    def restore(self, kept: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take up the best candidate of a checkpoint; it becomes a set again when the next candidate comes."""
        record = dict(kept)
        self._waiting_lr = record.pop("lr")
        self._waiting = tensors
        self.record = record

    def _revive(self, like: AnySet) -> None:
        """The best set of a checkpoint, from its tensors and what all candidates of a run share."""
        if self.best is None and self._waiting:
            assert self._waiting_lr is not None
            assert isinstance(like, SyntheticImages)
            self.best = dataclasses.replace(
                like,
                recipe=dataclasses.replace(like.recipe, lr=self._waiting_lr),
                images=self._waiting["images"],
                labels=self._waiting["labels"],
            )
