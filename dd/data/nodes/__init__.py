"""One big graph whose nodes have classes: reading, checks, splits, and one that is generated."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
