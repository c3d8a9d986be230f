"""What the fields of a trajectory-matching method may be; every refusal says the way out."""

from __future__ import annotations

import math
from typing import Any, Final

from dd.errors import refuse
from dd.shapes import check_types, check_whole

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "init": ("real", "noise", "representative", "correct"),
    "init_snapshot": ("read", "last"),
    "init_space": ("logit", "feature"),
    "pixel_optimizer": ("sgd", "adam"),
    "lr_mode": ("positive", "raw"),
    "intermediate": ("none", "equal", "adaptive"),
    "perturb_norm": ("tensor", "filter"),
    "labels": ("hard", "assigned", "learned"),
    "gradient": ("exact", "detached"),
}


def check_fields(m: Any) -> None:
    """Refuse what no `TrajectoryMatching` can have.

    Raises:
        InputError: a field out of range or of another type, options that exclude each other, or t + M beyond the
            buffer's snapshots.
    """
    check_types(m)
    for name in ("ipc", "iterations", "student_steps", "expert_epochs"):
        if getattr(m, name) < 1:
            raise refuse(name, "at least 1", getattr(m, name))
    for name in ("lr_img", "lr_init", "lr_label"):
        if not 0 < getattr(m, name) < math.inf:
            raise refuse(name, "positive and finite", getattr(m, name))
    for name in ("lr_lr", "perturb"):
        if not 0 <= getattr(m, name) < math.inf:
            raise refuse(name, "at least 0 and finite", getattr(m, name))
    for name in ("momentum", "momentum_img", "momentum_lr", "momentum_label"):
        if not 0 <= getattr(m, name) < 1:
            raise refuse(name, "in [0, 1)", getattr(m, name))
    if not 0 <= m.ema <= 1:
        raise refuse("ema", "in [0, 1]", m.ema)
    for name in ("batch_syn", "truncate"):
        if getattr(m, name) is not None and getattr(m, name) < 1:
            raise refuse(name, "None or at least 1", getattr(m, name))
    for name, known in CHOICES.items():
        if getattr(m, name) not in known:
            raise refuse(name, " or ".join(known), repr(getattr(m, name)))
    _check_window(m)
    if m.intermediate != "none" and m.student_steps < m.expert_epochs:
        way_out = 'Raise `student_steps`, or use `intermediate="none"`.'
        raise refuse("student_steps", f"at least expert_epochs = {m.expert_epochs}", m.student_steps, way_out)
    if m.truncate is not None and m.truncate > m.student_steps:
        raise refuse("truncate", f"at most student_steps = {m.student_steps}", m.truncate, "Use None for all steps.")
    if m.labels == "learned" and m.init == "noise":
        way_out = 'Use init="correct" or "real", whose images the experts can label.'
        raise refuse("init", "real images where labels are learned", "'noise'", way_out)
    _check_canvas(m)


def _check_canvas(m: Any) -> None:
    if check_whole(m.canvas_samples, "canvas_samples") > 1 and check_whole(m.canvas, "canvas") == 1:
        raise refuse("canvas_samples", "1 without a canvas", m.canvas_samples, "Give `canvas=2`.")
    if check_whole(m.canvas, "canvas") == 1:
        return
    if m.expert.whiten:
        way_out = "Use an `expert` with whiten=False, or `canvas=1`."
        raise refuse("canvas", "1 with a whitened buffer, whose matrix is of one picture size", m.canvas, way_out)
    if m.labels != "hard":
        way_out = 'Use labels="hard", or `canvas=1`.'
        raise refuse("labels", "`hard` with a canvas, whose crops share one label", repr(m.labels), way_out)
    if m.init not in ("real", "noise"):
        way_out = 'Use init="noise" or "real", or `canvas=1`.'
        raise refuse("init", "`real` or `noise` with a canvas", repr(m.init), way_out)


def _check_window(m: Any) -> None:
    if not 0 <= m.min_start_epoch < m.max_start_epoch:
        raise refuse("max_start_epoch", f"above min_start_epoch = {m.min_start_epoch} ≥ 0", m.max_start_epoch)
    current = m.current_start_epoch
    if current is not None and not m.min_start_epoch < current <= m.max_start_epoch:
        expected = f"None, or above min_start_epoch = {m.min_start_epoch} and at most {m.max_start_epoch}"
        raise refuse("current_start_epoch", expected, current)
    if m.window_iterations < 0:
        raise refuse("window_iterations", "at least 0", m.window_iterations)
    if m.snapshots_matched > m.expert.snapshots:
        raise refuse(
            "max_start_epoch",
            f"at most {m.expert.snapshots - m.expert_epochs + 1}, so that the last start and "
            f"expert_epochs = {m.expert_epochs} stay inside the buffer's {m.expert.snapshots} snapshots",
            m.max_start_epoch,
            "Lower it, or raise the recipe's `snapshots`.",
        )
