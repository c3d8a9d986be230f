"""Mirage: mining, and what a summary is made of."""

from dd.methods.mirage.method import CoverageWarning, Mirage

__all__ = ["CoverageWarning", "Mirage"]
