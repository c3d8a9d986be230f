"""A run from its arguments to its folder: what is asked, what is done, what is kept."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
