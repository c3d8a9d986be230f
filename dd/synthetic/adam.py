"""What recipes of networks on graphs share: the network by its name, and the numbers of Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dd.base.shapes import check_number, check_types, check_whole
from dd.errors import refuse
from dd.models.graphs.named import NamedNet


def check_adam(recipe: Any, nets: type[NamedNet], example: str, whole: Sequence[str]) -> None:
    """Check the fields `model`, `lr`, `weight_decay`, `dropout` and whole numbers; `model` becomes its canonical text.

    Args:
        recipe: a frozen dataclass that has them.
        nets: what the text of its model is of.
        example: a model, for the message.
        whole: its fields of at least 1.

    Raises:
        InputError: a field outside its range or of another type, or an unknown network or option of one.
    """
    if not isinstance(recipe.model, str):
        raise refuse("model", f"a text such as {example}", repr(recipe.model), "Give others to `evaluate`.")
    object.__setattr__(recipe, "model", str(nets.parse(recipe.model)))
    for name in whole:
        check_whole(getattr(recipe, name), name)
    for name in ("lr", "weight_decay", "dropout"):
        check_number(getattr(recipe, name), name, 0)
    check_types(recipe)
    if not recipe.lr > 0:
        raise refuse("lr", "positive", recipe.lr)
    if recipe.dropout >= 1:
        raise refuse("dropout", "less than 1", recipe.dropout)
