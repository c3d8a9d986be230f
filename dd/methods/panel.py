"""Who teaches: a committee's teachers with their priors, from names, from the store, or from the user's own modules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dd.data import Images
from dd.errors import refuse
from dd.methods.base import Run
from dd.models import ModelSpec, as_spec
from dd.teachers import (
    Teacher,
    TeacherRecipe,
    TeacherStore,
    accuracy,
    label,
    pretrained_teacher,
    tried_on,
    vote_weights,
)
from dd.transforms.whiten import Normalise

Member = str | Teacher | nn.Module


@dataclass(frozen=True)
class Panel:
    """A committee at work.

    Attributes:
        teachers: the members.
        priors: α of each, in per cent.
    """

    teachers: tuple[Teacher, ...]
    priors: tuple[float, ...]

    @property
    def hashes(self) -> list[str]:
        """Those of the teachers' weights, and the priors: what parts of a work depend on."""
        return [*(teacher.sha256 for teacher in self.teachers), *map(repr, self.priors)]

    def votes(self, members: Sequence[int], tau: float) -> list[tuple[Teacher, float]]:
        """Some of the members with their weights at temperature τ."""
        weights = vote_weights([self.priors[m] for m in members], tau)
        return [(self.teachers[m], weight) for m, weight in zip(members, weights, strict=True)]

    def all_votes(self, tau: float) -> list[tuple[Teacher, float]]:
        """Every member with its weight at temperature τ."""
        return self.votes(range(len(self.teachers)), tau)

    def score(self, pixels: Tensor, tau: float, size: tuple[int, int]) -> Tensor:
        """Logits `[n, K]` of the whole committee for pixels in [0, 1], by running statistics.

        Pictures smaller than `size` are padded to it with each teacher's own mean colour.
        """
        device = next(self.teachers[0].module.parameters()).device
        votes = self.all_votes(tau)
        return label([teacher.as_module(size) for teacher, _ in votes], [w for _, w in votes], pixels.to(device))


def check_members(committee: object) -> tuple[Member, ...]:
    """The committee as a tuple, or refuse one that is empty or holds what is no teacher."""
    if isinstance(committee, str | Teacher | nn.Module):
        committee = (committee,)
    if not isinstance(committee, list | tuple) or not committee:
        raise refuse("committee", "one or more of: model names, dd.Teacher values, trained modules", repr(committee))
    for member in committee:
        if isinstance(member, str):
            as_spec(member)
        elif not isinstance(member, Teacher | nn.Module):
            raise refuse("committee", "of model names, dd.Teacher values or trained modules", type(member).__name__)
    return tuple(committee)


def describe_members(committee: Sequence[Member]) -> list[Any]:
    """Members as JSON-able values: names, and for ready teachers name and hash."""
    told: list[Any] = []
    for member in committee:
        if isinstance(member, str):
            told.append(str(as_spec(member)))
        elif isinstance(member, Teacher):
            told.append({"name": member.name, "sha256": member.sha256})
        else:
            told.append({"name": type(member).__name__})
    return told


def seat(
    committee: Sequence[Member],
    recipe: TeacherRecipe,
    priors: Sequence[float] | None,
    class_ids: tuple[int, ...] | None,
    real: Images,
    run: Run,
) -> Panel:
    """The committee for this data: trained where missing, tried on real images, with measured priors.

    A name is trained by `recipe`; `tv:NAME(weights=…)` and `timm:NAME(weights=…)` come with their weights and own
    constants; a bare module is taken to work on the data's own mean and std. A user's modules are copied, and stay as
    they are.

    Raises:
        InputError: a member that does not know the data's classes, or a module without the data's mean.
        DivergedError: training a member diverged.
    """
    store = TeacherStore(run.store / "teachers", real)
    teachers = {}
    for place, member in enumerate(committee):  # before any other is trained
        if isinstance(member, str) and not has_weights(member):
            continue
        teacher = _given(member, class_ids, real, run)
        teacher.check(tried_on(real), real.num_classes)
        if priors is None and len(committee) > 1 and math.isnan(teacher.accuracy):
            held_out = real.val if real.val is not None and len(real.val) else real.train
            teacher = dataclasses.replace(teacher, accuracy=accuracy(teacher, held_out))
        teachers[place] = teacher
    recipes = {
        place: dataclasses.replace(recipe, model=member)
        for place, member in enumerate(committee)
        if isinstance(member, str) and place not in teachers
    }
    missing = list(recipes.values()) if len(recipes) > 1 else []
    store.make_missing(missing, device=run.device, progress=run.progress)
    for place, one in recipes.items():
        teachers[place] = store.get(one, device=run.device, progress=run.progress)
    seated = tuple(teachers[place] for place in range(len(committee)))
    found = [100 * teacher.accuracy for teacher in seated] if priors is None else priors
    return Panel(seated, tuple(0.0 if math.isnan(alpha) else alpha for alpha in found))


def has_weights(member: str) -> bool:
    """Whether a name brings its weights, so that nothing is trained."""
    spec = as_spec(member)
    return isinstance(spec, ModelSpec) and dict(spec.options).get("weights", "none") != "none"


def _given(member: Member, class_ids: tuple[int, ...] | None, real: Images, run: Run) -> Teacher:
    """A member that is not trained here."""
    if isinstance(member, str):
        return pretrained_teacher(member, real, class_ids, run.device)
    if isinstance(member, Teacher):
        teacher = dataclasses.replace(member)  # the user's own stays where it is
    else:
        transform = Normalise(mean=tuple(real.mean), std=tuple(real.std))
        teacher = Teacher(type(member).__name__, member, transform, class_ids=class_ids)
    teacher.module.to(run.device)
    return teacher
