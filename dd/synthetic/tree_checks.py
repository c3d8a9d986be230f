"""What a summary of trees may hold: every index points to something, every count is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dd.base.shapes import check_finite, check_word
from dd.data.graphs.codes import NODE_LABELS, Codes
from dd.errors import refuse

if TYPE_CHECKING:
    from dd.synthetic.trees import Level, TreeSummary


def check_summary(summary: TreeSummary) -> None:
    """Refuse a summary whose indices or counts no mining gives.

    Raises:
        InputError: the first one, by name.
    """
    codes, classes, below = summary.codes, len(summary.classes), 0
    _check_codes(codes)
    for depth, level in enumerate(summary.levels):
        _check_level(level, f"level {depth}", below if depth else None, len(codes.table), len(codes.edge_table))
        below = len(level)
    _check_ends("pattern_ptr", summary.pattern_ptr, len(summary.pattern_tree), least=1)
    _check_whole("pattern_tree", summary.pattern_tree, 0, below - 1)
    _check_whole("labels", summary.labels, 0, classes - 1)
    _check_whole("graphs", summary.graphs, 0)
    if len(summary.graphs) != classes:
        raise refuse("graphs", f"one count for each of {classes} classes", len(summary.graphs))
    for name in ("support", "tree_support"):
        value = getattr(summary, name)
        _check_whole(name, value, 0)
        if bool((value > summary.graphs).any()):
            raise refuse(name, "at most the training graphs of each class", int(value.max()))
    for name in ("leaf_degree", "pattern_count"):
        value = getattr(summary, name)
        if value.dtype != torch.float32:
            raise refuse(name, "float32", value.dtype)
        check_finite(value, name)
        _check_range(name, value, 0)


def check_supports(small: TreeSummary, reader: str) -> None:
    """Refuse a summary without the supports of its trees for what reads them.

    Raises:
        InputError: it has none.
    """
    if not len(small.tree_support):
        way_out = "Distil with keep_supports=True, which counts their bytes."
        raise refuse("tree_support", f"kept, as {reader} reads the supports of trees", "none", way_out)


def _check_level(level: Level, name: str, below: int | None, labels: int, edges: int) -> None:
    """Its trees are of `labels` labels, their children and truncations among `below` trees; `None` at depth 0."""
    runs = len(level.child)
    for field in ("trunc", "ptr", "edge", "count"):
        wanted = {"trunc": len(level), "ptr": len(level) + 1}.get(field, runs)
        if getattr(level, field).shape != (wanted,):
            raise refuse(f"{field} of {name}", f"of shape [{wanted}]", list(getattr(level, field).shape))
    if below is None and runs:
        raise refuse(f"child of {name}", "empty, as these are leaves", f"{runs} children")
    _check_ends(f"ptr of {name}", level.ptr, runs)
    _check_whole(f"label of {name}", level.label, 0, labels)
    _check_whole(f"trunc of {name}", level.trunc, 0, None if below is None else below - 1)
    _check_whole(f"child of {name}", level.child, 0, None if below is None else below - 1)
    _check_whole(f"edge of {name}", level.edge, 0, edges)
    _check_whole(f"count of {name}", level.count, 1)


def _check_codes(codes: Codes) -> None:
    check_word(codes.kind, "node_label", NODE_LABELS[1:])
    for side, values, table in (("", codes.values, codes.table), ("edge_", codes.edge_values, codes.edge_table)):
        if table.ndim != 2 or table.shape[1] != len(values):
            raise refuse(f"codes.{side}table", f"of {len(values)} columns", list(table.shape))
        for place, known in enumerate(values):
            if bool((known.diff() <= 0).any()):
                raise refuse(f"codes.{side}values", "rising", "others")
            _check_whole(f"codes.{side}table", table[:, place], 0, len(known))


def _check_ends(name: str, ptr: Tensor, total: int, least: int = 0) -> None:
    _check_whole(name, ptr, 0, total)
    if not len(ptr) or int(ptr[0]) or int(ptr[-1]) != total or bool((ptr.diff() < least).any()):
        raise refuse(name, f"rising from 0 to {total} by at least {least}", ptr.tolist()[:8])


def _check_whole(name: str, value: Tensor, low: int, high: int | None = None) -> None:
    if value.dtype != torch.int64:
        raise refuse(name, "whole numbers", value.dtype)
    _check_range(name, value, low, high)


def _check_range(name: str, value: Tensor, low: int, high: int | None = None) -> None:
    if not value.numel():
        return
    least, most = value.min().item(), value.max().item()
    if least < low or (high is not None and most > high):
        raise refuse(name, f"at least {low}" if high is None else f"in {low}…{high}", f"{least}…{most}")
