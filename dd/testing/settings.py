"""Methods with little to do, for tests."""

from __future__ import annotations

from dd.errors import find_name
from dd.methods import METHODS, Method
from dd.methods.cards import card
from dd.methods.presets import replace_fields


def tiny(method: str) -> Method:
    """The method of that name with the `tiny` fields of its card: it runs in a second on a hundred pictures or graphs.

    Raises:
        InputError: unknown method, or a field that it does not have.
    """
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in card(method).tiny.items()}
    return replace_fields(METHODS[find_name("method", method, METHODS)](), fields)
