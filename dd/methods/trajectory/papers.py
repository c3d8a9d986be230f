"""Five papers, one loop: the fields that make `TrajectoryMatching` each of them.

MTT: Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022.
FTD: Du et al., Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation, CVPR 2023.
AST: Shen, Yang and Lam, arXiv 2310.10541. TESLA: Cui et al., ICML 2023. DATM: Guo et al., ICLR 2024.
"""

from __future__ import annotations

from typing import Any

from dd.experts import ExpertRecipe
from dd.methods.named import by_fields
from dd.methods.trajectory.given import completed
from dd.methods.trajectory.matching import TrajectoryMatching


@by_fields
def MTT(**fields: Any) -> TrajectoryMatching:
    """Matching training trajectories: plain SGD experts, no averaging."""
    return TrajectoryMatching(**{"name": "mtt", **completed(fields)})


@by_fields
def FTD(**fields: Any) -> TrajectoryMatching:
    """Flat trajectory distillation: experts trained by GSAM, and an average of the images over the iterations.

    The EMA set is evaluated with a fresh network; the authors' code continues the network trained on x. Beside other
    methods it has had more: a step of its experts takes two gradients, and the set is the better of two candidates, the
    images and their average, on held-out images (with `protocol="paper"` on the test set).
    """
    defaults = {"name": "ftd", "expert": ExpertRecipe(step="gsam"), "ema": 0.9995}
    return TrajectoryMatching(**{**defaults, **completed(fields)})


@by_fields
def AST(**fields: Any) -> TrajectoryMatching:
    """Alignment with smooth experts: heavy-ball student on smooth experts, from representative images, with a balanced
    inner loss, intermediate matching points and a perturbed start. Each is a field of its own.
    """
    smooth = ExpertRecipe(lr=0.003, momentum=0.9, weight_decay=1e-3, ramp=True, penalty=2.0, drop_epochs=26)
    defaults = {"name": "ast", "expert": smooth, "momentum": 0.9, "init": "representative", "balance": True}
    return TrajectoryMatching(**{**defaults, "intermediate": "equal", "perturb": 1.0, **completed(fields)})


@by_fields
def TESLA(**fields: Any) -> TrajectoryMatching:
    """TESLA: the gradient with every student point held constant; for many classes with `labels="assigned"`."""
    return TrajectoryMatching(**{"name": "tesla", "gradient": "detached", **completed(fields)})


@by_fields
def DATM(**fields: Any) -> TrajectoryMatching:
    """Difficulty-aligned matching: learned soft labels, steps with L > 1 skipped; a window of start epochs that
    grows where `current_start_epoch` and `window_iterations` are given (the presets do).
    """
    expert = ExpertRecipe(step="gsam", whiten=True, snapshots=100)
    defaults = {"name": "datm", "expert": expert, "iterations": 10000, "student_steps": 80, "lr_label": 2.0}
    return TrajectoryMatching(
        **{**defaults, "init": "correct", "labels": "learned", "skip_above": 1.0, **completed(fields)}
    )
