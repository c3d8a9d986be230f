"""Sets and buffers of others read, ours written for others."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
