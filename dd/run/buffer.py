"""`buffer`: train the experts that trajectory matching needs, before they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from dd.base.home import default_store
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, reporter
from dd.base.shapes import filled
from dd.data import Source
from dd.evaluation.selection import Protocol
from dd.experts import ExpertRecipe, ExpertStore, load_recipe
from dd.methods import FromExperts
from dd.run.resolve import load_real, only_images, resolve_device
from dd.transforms.whiten import make_transform


@under_own_settings
@keeping_pages
def buffer(
    data: object,
    recipe: str | ExpertRecipe | FromExperts,
    *,
    experts: int | None = None,
    snapshots: int | None = None,
    protocol: Protocol = "clean",
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
) -> ExpertStore:
    """Make the expert trajectories that are missing in the store, and nothing twice.

    Args:
        data: as in `distill`.
        recipe: a shipped recipe's name, a TOML path, an `ExpertRecipe`, or a method that reads experts, such as a
            trajectory-matching value: then the snapshots stop at the last one that it reads.
        experts, snapshots: how many; the recipe's by default.
        protocol, store, device, threads, progress, root, download, size, aspect: as in `distill`;
            a recipe says nothing of `aspect`, so give that of the run that it is for.
    """
    given, target = locals(), resolve_device(device)
    real = only_images(load_real(data, filled(Source, given), protocol), "`buffer`")
    if isinstance(recipe, FromExperts):
        snapshots = recipe.snapshots_read if snapshots is None else snapshots
        recipe = recipe.expert
    value = recipe if isinstance(recipe, ExpertRecipe) else load_recipe(recipe)
    made = ExpertStore(default_store(store, progress), value, real)
    made.ensure(
        make_transform(real, value.whiten),
        experts=experts,
        snapshots=snapshots,
        device=target,
        progress=reporter(f"experts {value.name} on {real.name}", progress),
    )
    return made
