"""Work that outgrows one machine: plans of verbs, their units, and shares of them."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
