"""What a decoupled method cannot be or do, found out before a teacher is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from dd.base.shapes import check_number, check_whole
from dd.data import Images
from dd.errors import refuse
from dd.methods.panel import Member, has_weights
from dd.models import build
from dd.synthetic import TrainRecipe
from dd.synthetic.records import record_bytes
from dd.teachers import Teacher, keeps_statistics

if TYPE_CHECKING:
    from dd.methods.decoupled.recover import Recover

NORMS: Final = "Use a batch-norm variant such as `convnet(norm=batch)`, or a method without recovery."


def check_priors(priors: tuple[float, ...] | None, committee: tuple[Member, ...]) -> None:
    """Refuse another number of priors than of members, and what is no share in per cent."""
    if priors is None:
        return
    if not isinstance(priors, list | tuple) or len(priors) != len(committee):
        got = len(priors) if isinstance(priors, list | tuple) else repr(priors)
        raise refuse("priors", f"{len(committee)} numbers, one a member", got)
    for alpha in priors:
        if check_number(alpha, "priors", low=0.0) > 100:
            raise refuse("priors", "accuracies in per cent, at most 100", alpha)


def check_class_ids(class_ids: tuple[int, ...] | None) -> None:
    """Refuse places of outputs that are none, or one twice."""
    if class_ids is None:
        return
    given: Any = class_ids if isinstance(class_ids, list | tuple) else ()
    whole = all(isinstance(k, int) and not isinstance(k, bool) and k >= 0 for k in given)
    if not given or not whole or len(set(given)) < len(given):
        raise refuse("class_ids", "different whole numbers of at least 0, one a class", repr(class_ids))


def check_pairs(method: Recover) -> tuple[tuple[int, int], ...]:
    """The pairs of a method as tuples, or refuse what is none."""
    given: Any = method.pairs
    count, found = len(method.committee), []
    expected = f"pairs of two different places in the committee, 0 to {count - 1}"
    for pair in given if isinstance(given, list | tuple) and given else [given]:
        places = pair if isinstance(pair, list | tuple) and len(pair) == 2 else ()
        whole = all(isinstance(m, int) and not isinstance(m, bool) and 0 <= m < count for m in places)
        if not places or not whole or places[0] == places[1]:
            raise refuse("pairs", expected, repr(pair), "Name a larger `committee`, or leave `pairs` out.")
        found.append((places[0], places[1]))
    if (method.voters, method.schedule) != (2, "auto"):
        got = f"voters={method.voters}, schedule={method.schedule!r}"
        raise refuse("pairs", "given without `voters` and `schedule`", got, "Leave one of them out.")
    return tuple(found)


def check_scale(scale: tuple[float, ...]) -> None:
    """Refuse what is no range of shares of an area, nor empty."""
    given: Any = scale if isinstance(scale, list | tuple) else (scale,)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    if given and (len(given) != 2 or not numbers or not 0 < given[0] <= given[1] <= 1):
        raise refuse("scale", "empty, or 0 < low ≤ high ≤ 1", repr(scale))


def check_label_recipe(labels: str, train: TrainRecipe) -> None:
    """Refuse a student's recipe that does not fit the kind of labels."""
    if (labels == "stored") == (train.loss == "ce"):
        loss = "kl" if labels == "stored" else "ce"
        way_out = f'Give train={{"loss": "{loss}"}}; in a shell: --train.loss {loss}.'
        expected = "`kl` or `gift` with stored labels, and `ce` with others"
        raise refuse("train.loss", expected, f"{train.loss!r} with {labels!r}", way_out)
    if labels == "stored":
        check_plain_views(labels, train)
    if labels == "hard":
        train.check_hard()


def check_plain_views(labels: str, train: TrainRecipe) -> None:
    """Refuse augmentation and mixing of a student whose labels are of batches that have both already."""
    none = {"augment": "", "mix": "none"}
    wrong = {name: value for name, value in none.items() if getattr(train, name) != value}
    if wrong:
        got = ", ".join(f'{name}="{getattr(train, name)}"' for name in wrong)
        fields = ", ".join(f'"{name}": "{value}"' for name, value in wrong.items())
        options = " ".join(f"--train.{name} {value or chr(34) * 2}" for name, value in wrong.items())
        way_out = f"The labels are of stored views and mixes. Give train={{{fields}}}; in a shell: {options}."
        raise refuse("train", f"without `augment` and `mix` with {labels} labels", got, way_out)


def check_label_bytes(label_bytes: int | None, labels: str) -> None:
    """Refuse a byte budget that is no whole number, or is of labels that are not stored batch by batch."""
    if label_bytes is None:
        return
    check_whole(label_bytes, "label_bytes")
    if labels not in ("stored", "dynamic"):
        raise refuse("label_bytes", "None where no batches are stored", f"{label_bytes} with {labels!r} labels")


def check_label_room(label_bytes: int | None, lengths: Sequence[int], classes: int, strips: int = 0) -> None:
    """Refuse a byte budget that not one batch fits.

    Args:
        label_bytes: the budget.
        lengths: images of each batch.
        classes, strips: of `dd.synthetic.records.record_bytes`.
    """
    if label_bytes is not None and lengths and label_bytes < (least := record_bytes(min(lengths), classes, strips)):
        expected = f"None, or at least {least}, the labels of the smallest batch"
        raise refuse("label_bytes", expected, label_bytes, "Raise it, or leave it out for all of them.")


def check_norms(committee: Sequence[Member], real: Images, why: str, way_out: str) -> None:
    """Refuse a member without batch norms that keep statistics; what comes with weights of a package is not looked at.

    Args:
        committee: the members.
        real: the data.
        why: they are needed.
        way_out: for the message.
    """
    for member in committee:
        if isinstance(member, str) and has_weights(member):
            continue
        if isinstance(member, str):
            found = _has_norms(member, real.channels, real.num_classes, real.size)
        else:
            module = member.module if isinstance(member, Teacher) else member
            found = _any_norms(module)
        if not found:
            got = member if isinstance(member, str) else _name(member)
            raise refuse("committee", f"of networks with batch norms that keep running statistics, {why}", got, way_out)


def _name(member: Teacher | nn.Module) -> str:
    return member.name if isinstance(member, Teacher) else type(member).__name__


@lru_cache(32)
def _has_norms(member: str, channels: int, classes: int, size: tuple[int, int]) -> bool:
    return _any_norms(build(member, channels=channels, classes=classes, size=size, seed=0))


def _any_norms(module: nn.Module) -> bool:
    return any(map(keeps_statistics, module.modules()))
