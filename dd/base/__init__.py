"""What every room stands on: files, paths, checks, seeds, processes, pictures. Nothing here knows of data sets."""

from typing import TYPE_CHECKING

from dd.base.lazy import modules_of

if not TYPE_CHECKING:
    __getattr__ = modules_of(__name__)
