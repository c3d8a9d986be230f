"""Small graphs for node classification, found without training a network: class means, and ego nets that cover."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
