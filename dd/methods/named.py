"""Papers that are functions over a method's class: what they are given is checked by name before the class sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, get_type_hints

from dd.errors import refuse, unknown

Made = TypeVar("Made")


def by_fields(paper: Callable[..., Made]) -> Callable[..., Made]:
    """A function of a method's fields that refuses what is none of them.

    Args:
        paper: takes fields by name and says which dataclass it gives (`-> TrajectoryMatching`).

    Raises:
        InputError: a value without a name, or a name that the dataclass does not have; the nearest one is offered.
    """

    @cache
    def fields_of() -> tuple[str, ...]:
        return tuple(field.name for field in dataclasses.fields(get_type_hints(paper)["return"]))

    @wraps(paper)
    def made(*values: Any, **fields: Any) -> Made:
        if values:
            way_out = f"Give them by name: `{paper.__name__}(ipc=1)`."
            raise refuse("fields", f"fields of {paper.__name__} by name", f"{len(values)} without a name", way_out)
        for name in fields.keys() - set(fields_of()):
            raise unknown(f"field of {paper.__name__}", name, fields_of())
        return paper(**fields)

    return made
