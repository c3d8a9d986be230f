"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dd-distillation")
except PackageNotFoundError:  # a bare checkout on the path
    __version__ = "0"
