"""Distribution matching: one loop, and the papers as its fields."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
