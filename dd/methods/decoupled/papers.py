"""Decoupled papers: the fields that make `Recover` or `Infer` each of them.

SRe2L: Yin, Xing and Shen, NeurIPS 2023. CDA: Yin and Shen, TMLR 2024. DELT: Shen, Sherif, Yin and Shao, CVPR 2025.
SRe2L++ and CV-DD: Cui et al., arXiv 2501.07575. RDED: Sun et al., CVPR 2024. INFER: Zhang, Du, Liu and Zhou, ICLR 2025.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dd.errors import DamagedError, InputError, refuse
from dd.methods.decoupled.infer import Infer
from dd.methods.decoupled.recover import Recover
from dd.methods.named import by_fields
from dd.methods.panel import Member, check_members
from dd.synthetic import TrainRecipe
from dd.teachers import MEMBERS, Teacher, TeacherRecipe

STUDENT = TrainRecipe(
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.01,
    decay="weights",
    schedule="cosine",
    loss="kl",
    temperature=20.0,
    batch_size=16,
    steps=2000,
)
"""AdamW with a cosine on tempered KL to the stored logits."""


@by_fields
def SRE2L(**fields: Any) -> Recover:
    """Squeeze, recover, relabel: one teacher, images from noise, labels by its running statistics."""
    return Recover(**{"name": "sre2l", "init": "noise", "labels": "stored", "train": STUDENT, **fields})


@by_fields
def CDA(**fields: Any) -> Recover:
    """SRe2L with crops that begin as whole pictures and grow smaller: from easy to hard."""
    return SRE2L(**{"name": "cda", "curriculum": "cosine", **fields})


@by_fields
def DELT(**fields: Any) -> Recover:
    """CDA from real patches of medium difficulty, whose images enter in rounds and so differ in age."""
    own = {"curriculum": "cosine", "init": "medium", "rounds": 8, "jitter": 0}
    return SRE2L(**{"name": "delt", **own, **fields})


@by_fields
def SRE2LPP(**fields: Any) -> Recover:
    """SRe2L from real patches of medium difficulty, labelled by the statistics of the student's micro-batches."""
    student = {"labels": "stored", "bn_mode": "batch", "train": _halves(STUDENT)}
    return Recover(**{"name": "sre2l++", "init": "medium", **student, **fields})


@by_fields
def CVDD(**fields: Any) -> Recover:
    """SRe2L++ with a committee: pairs of teachers vote for an image by their priors, all of them for labels."""
    student = {"labels": "stored", "bn_mode": "batch", "train": _halves(STUDENT)}
    committee = tuple(f"{name}(norm=batch)" if name.startswith("resnet") else name for name in MEMBERS)
    return Recover(**{"name": "cvdd", "committee": committee, "init": "medium", **student, **fields})


@by_fields
def RDED(**fields: Any) -> Recover:
    """The real patches that a teacher finds easiest, without recovery. The paper's labels are made on the way; ours
    are stored, and so are the same for every student.
    """
    own = {"init": "rded", "iterations": 0, "scale": (1.0, 1.0), "labels": "stored", "shuffle": True}
    return Recover(**{"name": "rded", **own, "train": STUDENT, **fields})


@by_fields
def INFER(**fields: Any) -> Infer:
    """Real images with compensators that all classes share, and one static label a composed image."""
    return Infer(**{"name": "infer", **fields})


def _halves(train: TrainRecipe) -> TrainRecipe:
    """With batches cut into two micro-batches, of eight at the default batch."""
    return dataclasses.replace(train, accumulate=2)


def _same(told: Sequence[Any], members: Sequence[Member]) -> Sequence[Member]:
    """The members, or refuse those that the set was not made by."""
    if len(told) != len(members):
        raise refuse("committee", f"{len(told)} teachers, those of the set", len(members))
    for one, member in zip(told, members, strict=True):
        known = one.get("sha256") if isinstance(one, dict) else None
        if known and isinstance(member, Teacher) and member.sha256 != known:
            raise refuse("committee", f"{one['name']} with weights {known[:8]}, as in the set", member.sha256[:8])
    return members


_KINDS: dict[str, type[Recover] | type[Infer]] = {"Recover": Recover, "Infer": Infer}
_TUPLES = ("committee", "priors", "scale", "class_ids")


def of_teachers(record: Mapping[str, Any]) -> bool:
    """Whether a set says that its method is one whose labels are of teachers."""
    return str(record.get("class")) in _KINDS


def rebuild(record: Mapping[str, Any], committee: Sequence[Member] | None = None) -> Recover | Infer | None:
    """The method that a set says it is of; `None` for others, and where its teachers cannot be known.

    Args:
        record: `small.method`.
        committee: the teachers of a set whose own are modules of the user, in the same order.

    Raises:
        InputError: another number of teachers, or a `dd.Teacher` with other weights than the record's.
        DamagedError: a record that names one of the two classes and is none of its own.
    """
    kind = _KINDS.get(str(record.get("class")))
    if kind is None:
        return None
    told = record.get("committee")
    if not isinstance(told, list | tuple):
        raise DamagedError(f"the set says that its method is {kind.__name__}, and names no `committee` of it.")
    if committee is not None:
        record = {**record, "committee": _same(told, check_members(committee))}
    elif not all(isinstance(member, str) for member in told):
        return None
    fields: dict[str, Any] = {key: value for key, value in record.items() if key != "class"}
    try:
        fields.update({key: tuple(fields[key]) for key in _TUPLES if fields.get(key) is not None})
        fields["teacher"] = TeacherRecipe(**record["teacher"])
        fields["train"] = TrainRecipe(**record["train"])  # measured records tell no field that came later
        return kind(**fields)
    except (InputError, LookupError, TypeError) as error:
        raise DamagedError(
            f"the set says that its method is {kind.__name__}, with fields of none ({error})."
        ) from error
