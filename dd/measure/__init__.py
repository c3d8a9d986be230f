"""Measures of a set beyond accuracy, a file a measure: its mathematics, what it answers, and its verb."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
