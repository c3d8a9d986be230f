"""`estimate`: what a run will cost, of the arguments of `distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from dd.base.process import under_own_settings
from dd.base.shapes import filled
from dd.cost.estimate import Estimate, estimated, estimator_of
from dd.data import Source
from dd.errors import find_name, refuse
from dd.evaluation.selection import Protocol
from dd.methods import METHODS, Method, class_of, need_method
from dd.run.resolve import Tier, opened, resolve_device


@under_own_settings
def estimate(
    data: object,
    method: str | Method,
    *,
    preset: Tier = "auto",
    protocol: Protocol = "clean",
    calibrate: bool = False,
    device: str | torch.device | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    **fields: Any,
) -> Estimate:
    """Disk, memory and time of a run before it starts; nothing is written.

    Args:
        calibrate: measure this machine for at most ten seconds, in place of assumed rates.
        method: as in `distill`, of trajectory matching, or a value of one's own with a method
            `estimate(real, device, calibrate)`; others have no estimate.
        data, preset, protocol, device, root, download, size, aspect, **fields: as in `distill`.

    Raises:
        InputError: a method without an estimate; and as `distill`.
    """
    given, target = locals(), resolve_device(device)
    name = find_name("method", method, METHODS) if isinstance(method, str) else need_method(method).name
    predict = estimator_of(class_of(name) if isinstance(method, str) else type(method))
    if predict is None:
        known = f"one of trajectory matching ({', '.join(estimated())}), or one with a method `estimate`"
        raise refuse("method", known, name, "Others have no estimate.")
    asked = opened(data, method, filled(Source, given), protocol, preset, target, fields)
    return predict(asked.method, asked.real, target, calibrate)
