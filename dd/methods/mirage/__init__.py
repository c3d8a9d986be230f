"""Mirage: mining, and what a summary is made of."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = ["CoverageWarning", "Mirage"]

if TYPE_CHECKING:
    from dd.methods.mirage.method import CoverageWarning, Mirage
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.methods.mirage.method": "CoverageWarning Mirage",
        },
    )
